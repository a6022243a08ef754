"""Packaging after a kill: what the dead controller left in the scratch folder is no part of the Bento."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flows.gating import Source
from flows.shipping import _build
from registry.store import ContentStore

MLMODEL = "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"


def test_a_bento_that_a_killed_controller_left_half_built_is_built_anew_with_the_same_digest(tmp_path: Path) -> None:
    source = Source(SimpleNamespace(version="1"), tmp_path / "source", "sha256:unread")  # type: ignore[arg-type]
    source.folder.mkdir()
    (source.folder / "MLmodel").write_text(MLMODEL)
    (source.folder / "requirements.txt").write_text("")
    house = SimpleNamespace(origin=ContentStore.at(tmp_path / "store"))
    work: Any = SimpleNamespace(folder=tmp_path / "work", model="toy", desire=SimpleNamespace(version="1"), house=house)

    whole = _build(work, source)
    assert _build(work, source)["digest"] == whole["digest"]

    next((work.folder / "bento").rglob("MLmodel")).unlink()
    (work.folder / "bento" / "left.tmp").write_text("half a file")
    assert _build(work, source)["digest"] == whole["digest"]
