"""A release's scratch folder: what a dead controller left in it is no part of the Bento, and it goes when the release ends."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bentos.inputs import BuildOptions
from fleet.declared_gates import Gates
from fleet.declared_image import Image
from fleet.errors import IntegrityError
from fleet.home import Home
from fleet.manifest import Manifest, manifest_of
from fleet.phases import ReleasePhase
from flows import shipping
from flows.desires import desires, observe_candidate
from flows.gating import Source
from flows.journal import Journal
from flows.shipping import _build
from flows.work import drop_scratch
from registry.ledger import Ledger
from registry.store import ContentStore

MLMODEL = "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"


def working(folder: Path, gates: Gates) -> Any:
    house = SimpleNamespace(origin=ContentStore.at(folder / "store"), fleet_file=folder / "fleet.yaml")
    declared = SimpleNamespace(gates=gates, image=Image(), optimise=None)
    return SimpleNamespace(folder=folder / "work", model="toy", desire=SimpleNamespace(version="1"), house=house, declared=declared)


def test_a_bento_of_which_two_builds_differ_is_not_packaged_and_its_first_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BentoML itself is not asked: what is told here are two builds of it."""
    source = Source(SimpleNamespace(version="1"), tmp_path / "source", "sha256:unread", None)  # type: ignore[arg-type]
    work = working(tmp_path, Gates(reproducible=True))
    stamps = iter(("monday", "tuesday", "always", "always"))

    def built(model: Path, name: str, version: str, to: Path, options: BuildOptions) -> Manifest:
        (to / "src").mkdir(parents=True)
        (to / "src" / "stamp.txt").write_text(next(stamps))
        return manifest_of(to)

    monkeypatch.setattr(shipping, "build", built)
    with pytest.raises(IntegrityError, match=r"not reproducible: of two builds, src/stamp\.txt has other bytes"):
        _build(work, source)
    assert not any((tmp_path / "store").rglob("sha256/*"))
    assert _build(work, source)["files"] == 1


@pytest.mark.long
def test_a_bento_that_a_killed_controller_left_half_built_is_built_anew_with_the_same_digest(tmp_path: Path) -> None:
    source = Source(SimpleNamespace(version="1"), tmp_path / "source", "sha256:unread", None)  # type: ignore[arg-type]
    source.folder.mkdir()
    (source.folder / "MLmodel").write_text(MLMODEL)
    (source.folder / "requirements.txt").write_text("")
    work = working(tmp_path, Gates())
    whole = _build(work, source)
    assert _build(work, source)["digest"] == whole["digest"]

    next((work.folder / "bento").rglob("MLmodel")).unlink()
    (work.folder / "bento" / "left.tmp").write_text("half a file")
    assert _build(work, source)["digest"] == whole["digest"]


def test_the_scratch_folders_of_ended_releases_go_and_the_one_under_way_stays(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    house: Any = SimpleNamespace(ledger=ledger, home=Home(tmp_path))
    for version in ("1", "2"):
        opened = observe_candidate(ledger, "toy", version, "test")
        assert opened is not None
        (tmp_path / "work" / opened.release / "source").mkdir(parents=True)
    Journal(ledger, desires(ledger, "toy")[0], 0, "test").enter(ReleasePhase.REJECTED)
    drop_scratch(house, "toy")
    assert [folder.name for folder in (tmp_path / "work").iterdir()] == ["toy-2"]
