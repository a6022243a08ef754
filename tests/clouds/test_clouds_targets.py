"""The lazy table, the extras, and what the core must not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clouds.local.target import LocalTarget
from clouds.targets import NOT_YET, TARGETS, target_of
from fleet.declared_region import Region
from fleet.errors import NotSupported, UnknownName

ROOMS = ("fleet", "registry", "policies", "bentos", "clouds", "traffic", "monitoring")
HEAVY = ("boto3", "botocore", "google.cloud", "azure", "mlflow", "great_expectations", "bentoml", "dvc", "prefect")
ROOT = Path(__file__).parents[2]

# Not of the core: entry points act when imported, Alembic's files run inside Alembic, a Bento's definition inside BentoML
APART = ("__main__", "registry.migrations.", "bentos.service.bento")

WALK = """
import sys
before = set(sys.modules)  # the google-cloud wheels' .pth file puts an empty google.cloud there
import importlib, json, pkgutil
rooms, heavy, apart = json.loads(sys.argv[1])
walked = []
for room in rooms:
    for module in pkgutil.walk_packages(importlib.import_module(room).__path__, room + "."):
        if not any(part in module.name for part in apart):
            importlib.import_module(module.name)
            walked.append(module.name)
new = sorted(set(sys.modules) - before)
print(json.dumps([walked, [name for name in new if any(name == each or name.startswith(each + ".") for each in heavy)]]))
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)


def test_the_table_gives_the_local_target() -> None:
    assert target_of("local") is LocalTarget


@pytest.mark.parametrize("name", NOT_YET)
def test_a_target_that_is_not_there_yet_says_so(name: str) -> None:
    with pytest.raises(NotSupported, match=f"{name}.*not there yet.*docs/your-clouds.md"):
        target_of(name)


def test_an_unknown_target_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="aws, azure, gcp, kubernetes, local"):
        target_of("moon")


def test_a_target_whose_library_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "local", "a_library_that_is_not_there:LocalTarget")
    with pytest.raises(NotSupported, match=r"convoy\[stack\]"):
        target_of("local")


def test_the_table_and_the_fleet_know_the_same_names() -> None:
    declared = Region.model_json_schema()["properties"]["target"]["enum"]
    assert sorted(declared) == sorted((*TARGETS, *NOT_YET))


def test_looking_at_the_table_imports_no_target() -> None:
    ended = python("import sys, clouds.targets; print([name for name in sys.modules if name.startswith(('clouds.local', 'supervisor'))])")
    assert ended.stdout.strip() == "[]", ended.stderr


@pytest.mark.parametrize("library", ["boto3", "google.cloud.aiplatform", "azure.ai.ml"])
def test_an_extra_imports_in_a_process_of_its_own(library: str) -> None:
    ended = python(f"import {library}; print('imported')")
    assert ended.stdout.endswith("imported\n"), ended.stderr


def test_the_core_imports_no_cloud_and_no_heavy_library() -> None:
    ended = python(WALK, json.dumps([ROOMS, HEAVY, APART]))
    assert ended.returncode == 0, ended.stderr
    walked, found = json.loads(ended.stdout.splitlines()[-1])
    assert {name.split(".")[0] for name in walked} >= {"fleet", "registry", "clouds"}
    assert found == []
