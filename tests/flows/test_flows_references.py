"""Pinned rows are described once; then neither their repository nor their remote is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

import flows.references
from fleet.declared import Reference
from fleet.errors import Unreachable
from flows.references import pinned_reference
from support.data import pinned_rows

FILE = "rows.parquet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def repository(folder: Path) -> Path:
    return pinned_rows(folder, FILE, pd.DataFrame({"x": [1.0, 2.0]}))


def away(*_: object) -> None:
    raise Unreachable("the repository", "could not be cloned")


def test_a_commit_that_was_described_needs_no_remote_any_more(tmp_path, folder, repository, monkeypatch):
    wanted = Reference(repository=str(repository), path=FILE)
    first = pinned_reference(tmp_path, wanted)
    assert first.remarks == (f"The reference's revision HEAD was commit {first.lineage.commit[:12]} this time.",)
    monkeypatch.setattr(flows.references, "describe", away)
    remote, hidden = folder / "remote", folder / "hidden"
    remote.rename(hidden)
    try:
        assert pinned_reference(tmp_path, wanted) == first
        fixed = pinned_reference(tmp_path, wanted.model_copy(update={"revision": first.lineage.commit}))
    finally:
        hidden.rename(remote)
    assert (fixed.lineage, fixed.file, fixed.remarks) == (first.lineage, first.file, ())
    assert pd.read_parquet(fixed.file)["x"].tolist() == [1.0, 2.0]


def test_while_a_repository_is_away_its_rows_as_they_were_found_last_count_and_that_is_said(tmp_path, repository, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(repository, copy)
    wanted = Reference(repository=str(copy), path=FILE)
    first = pinned_reference(tmp_path / "work", wanted)
    shutil.rmtree(copy)
    monkeypatch.setattr(flows.references, "describe", away)
    found = pinned_reference(tmp_path / "work", wanted)
    assert (found.lineage, found.file) == (first.lineage, first.file)
    assert found.remarks[-1] == "The reference's repository could not be asked (Unreachable): its rows as they were found last time count."
    with pytest.raises(Unreachable):
        pinned_reference(tmp_path / "work", wanted.model_copy(update={"path": "other.parquet"}))
