"""What the documents say is so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from fleet import errors
from fleet.commands import Command
from fleet.declared import Approval, Canary
from fleet.declared_files import Files
from fleet.declared_golden import Golden
from fleet.declared_optimise import Optimise
from fleet.declared_policy import PolicyFiles
from fleet.declared_region import Region
from fleet.declared_replication import Replication
from fleet.declared_service import Service
from fleet.declared_traffic import RegionChoice, RequestLimits, ResidencyRules, ShadowPlan, StickyBy, Traffic
from fleet.errors import ExitCode
from fleet.settings import PREFIX, STORE_VARIABLES, Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?:\.venv/bin/|`)convoy ((?:[a-z]+ ?)+)")
REGISTRY = re.compile(r"https?://[^\s\"')]*(?:pypi|npmjs|pythonhosted|deb\.debian)", re.IGNORECASE)


def tracked_texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file() and (ROOT / name) != Path(__file__)]


def test_the_readme_fits_on_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_opens_with_one_title_and_leaves_no_blank_at_line_ends(document: Path) -> None:
    lines = document.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert [number for number, line in enumerate(lines, 1) if line != line.rstrip()] == []


def test_every_setting_is_documented_with_its_meaning() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"`{PREFIX}{name.upper()}`" in text
        assert str(field.description) in text


def test_every_key_of_a_models_traffic_is_documented() -> None:
    text = (ROOT / "docs/traffic.md").read_text()
    told = set(re.findall(r"`([a-z_.]+)`", " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))))
    keys = {"mode", "bake_seconds", "pin_header"}
    sections = {"sticky": StickyBy, "shadow": ShadowPlan, "residency": ResidencyRules, "limits": RequestLimits, "choice": RegionChoice}
    for section, kind in sections.items():
        keys |= {f"{section}.{name}" for name in kind.model_fields}
    assert told == keys
    assert {key.partition(".")[0] for key in keys} == set(Traffic.model_fields)


def test_every_key_of_a_store_and_every_variable_of_its_credentials_is_documented() -> None:
    text = (ROOT / "docs/stores.md").read_text()
    keys = [name for name in Region.model_fields if name.startswith("store")]
    assert [name for name in (*keys, *(name for names in STORE_VARIABLES.values() for name in names)) if f"`{name}`" not in text] == []


def test_every_exit_code_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    assert [code for code in ExitCode if f"{code.value} " not in text.partition("Exit codes:")[2]] == []


def test_every_command_that_a_document_names_exists() -> None:
    named = {tuple(found.split()) for document in DOCUMENTS for found in COMMAND.findall(document.read_text())}
    known = set(
        subprocess.run([sys.executable, "-m", "control.cli", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    )
    assert {words[0] for words in named} <= known


def test_every_command_is_shown_in_the_readme_or_where_one_operates_it() -> None:
    text = "".join((ROOT / name).read_text() for name in ("README.md", "docs/operate.md"))
    assert [" ".join(words) for words in commands() if f"convoy {' '.join(words)}" not in text] == []


def commands() -> list[tuple[str, ...]]:
    """Return every command that does something, such as ("ledger", "verify")."""
    import typer.main

    from control.cli import app

    def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for name, found in getattr(command, "commands", {}).items():
            yield from leaves(found, (*words, name)) if getattr(found, "commands", None) else [(*words, name)]

    return list(leaves(typer.main.get_command(app), ()))


def test_every_error_is_documented_with_what_it_answers() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d) \| (\d+) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    kinds = [found for found in vars(errors).values() if isinstance(found, type) and issubclass(found, errors.ConvoyError)]
    assert sorted(rows) == sorted((kind.__name__, str(int(kind.exit_code)), str(kind.http_status)) for kind in kinds)


def test_every_flow_and_deployment_is_in_the_operators_table() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE))
    flows = {name for file in (ROOT / "flows").glob("*.py") for name in re.findall(r'@flow\(\s*name="(\w+)"', file.read_text())}
    deployed = {found["name"] for found in YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert flows == deployed == told


def test_every_command_of_people_is_told_where_one_operates_it() -> None:
    told = set(re.findall(r"\*\*(\w+)\*\*", (ROOT / "docs/operate.md").read_text().partition("| command | in phase |")[2]))
    assert [command for command in Command if command.value not in told] == []


SECTIONS = {"canary": Canary, "approval": Approval, "gates.files": Files, "optimise": Optimise, "replication": Replication}


@pytest.mark.parametrize(("section", "kind"), SECTIONS.items())
def test_every_key_of_a_section_is_documented(section: str, kind: type[BaseModel]) -> None:
    text = (ROOT / "docs/settings.md").read_text()
    assert [name for name in kind.model_fields if f"`{section}.{name}`" not in text] == []


def test_every_key_of_a_models_policies_is_documented() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    assert [name for name in PolicyFiles.model_fields if f"`gates.policy.{name}`" not in text] == []


def test_every_subject_of_the_shipped_policies_is_documented() -> None:
    told = set(re.findall(r"`(\w+)` \|$", (ROOT / "docs/policy.md").read_text(), re.MULTILINE))
    assert told == {file.stem for file in (ROOT / "policies/data").iterdir()}


@pytest.mark.parametrize(("section", "kind"), [("golden", Golden), ("service", Service)])
def test_every_key_of_a_gate_is_documented(section: str, kind: type[Golden | Service]) -> None:
    text = (ROOT / "docs/settings.md").read_text()
    assert [name for name in kind.model_fields if f"`gates.{section}.{name}`" not in text] == []


def test_every_exit_code_is_where_one_operates_it() -> None:
    rows = re.findall(r"^\| (\d) \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE)
    assert sorted(map(int, rows)) == sorted(ExitCode)


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_no_file_names_a_package_registry() -> None:
    found = []
    for path in tracked_texts():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match}" for match in REGISTRY.findall(text)]
    assert found == []


def test_every_requirement_of_the_lock_has_a_hash() -> None:
    for lock in ("requirements.lock", "control/demo/requirements.txt"):
        pins = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text())
        assert [pin.split()[0] for pin in pins if "==" in pin and "--hash=sha256:" not in pin] == []
