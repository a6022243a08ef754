"""A version whose files were written to break their readers ends its release; it is not told again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from machine_places import Kind
from machine_world import MODEL, World

from fleet.canonical import digest_of
from fleet.versions import ModelVersion
from flows import gating, rights
from support.attacks import YAML_TEXTS

ASKED = {"gates": {"dependencies": {}}}
"""With this somebody asks what the model needs, before any gate is asked."""
DECIDE = gating._decide


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An installation whose gates are the real ones, with a version whose files a test writes into `logged`."""
    found = World(tmp_path / "home", {}, ASKED)
    (tmp_path / "logged").mkdir()

    def download(version: ModelVersion, to: Path) -> Any:
        to.mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / "logged").iterdir():
            (to / file.name).write_bytes(file.read_bytes())
        return SimpleNamespace(digest=digest_of(version.source.encode()))

    found._patches.setattr(gating, "_decide", DECIDE)
    found._patches.setattr(found.mlflow, "download", download)
    found._patches.setattr(found.mlflow, "tag", lambda *_: None, raising=False)
    yield found
    found.close()


def told(world: World) -> tuple[str, str]:
    """Want a version and let it be told; returns the phase in which it ended, and why."""
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    for _ in range(2):
        world.reconcile()
        world.runs.begin(world.release)
        world.runs.pass_time(40)
    world.facts.check_ledger()
    entered = world.ledger.stream(f"release/{MODEL}-1", "phase.entered")[-1]
    taken = world.ledger.stream(f"release/{MODEL}-1", "release.taken up")
    assert len(taken) == 1, "it is told once"
    return str(entered.payload["phase"]), str(entered.payload)


@pytest.mark.parametrize("text", YAML_TEXTS[:2])
@pytest.mark.parametrize("name", ["MLmodel", "conda.yaml", "python_env.yaml"])
def test_files_that_break_their_readers_reject_the_version(world: World, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "logged" / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "logged" / name).write_text(text)
    phase, why = told(world)
    assert phase == "rejected"
    assert ("schema present: the model's MLmodel file" if name == "MLmodel" else f"{name} cannot be read") in why


def test_files_that_break_what_gathers_in_a_way_that_nobody_knows_fail_the_release_by_the_type_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a secret of the file")

    monkeypatch.setattr(rights, "needs_of", broken)
    (tmp_path / "logged" / "MLmodel").write_text("flavors: {}\n")
    phase, why = told(world)
    assert phase == "failed"
    assert "KeyError" in why
    assert "secret" not in why
