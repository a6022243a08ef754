"""Exporting a stored revision, from whichever store has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bentos.oci.modelpack import read_modelpack
from fleet.errors import InputError, IntegrityError, UnknownName
from flows.exporting import export
from flows.house import House
from support.stack import REGIONS, house_without_servers
from support.stored import MODEL, blob_file, flip_one_byte, released


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path / "home")


def test_every_store_exports_the_same_artifact_of_what_serves(house: House, tmp_path: Path) -> None:
    released(house, "1")
    revision = released(house, "2")
    found = [export(house, MODEL, None, tmp_path / str(number), region) for number, region in enumerate((None, *REGIONS))]
    assert {each.digest for each in found} == {found[0].digest}
    assert read_modelpack(tmp_path / "0").digest == revision.digest == found[0].revision.digest
    assert found[0].name.startswith("2-")


def test_an_older_version_is_exported_by_its_number(house: House, tmp_path: Path) -> None:
    first = released(house, "1")
    released(house, "2")
    assert export(house, MODEL, "1", tmp_path / "out").revision == first


def test_what_there_is_not_is_refused_with_nothing_written(house: House, tmp_path: Path) -> None:
    to = tmp_path / "out"
    with pytest.raises(UnknownName, match="no stable revision"):
        export(house, MODEL, None, to)
    released(house, "1")
    with pytest.raises(UnknownName, match="was never packaged"):
        export(house, MODEL, "7", to)
    with pytest.raises(UnknownName, match="is not declared"):
        export(house, MODEL, None, to, "nowhere")
    with pytest.raises(UnknownName):
        export(house, "other", None, to)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").touch()
    with pytest.raises(InputError, match="not empty"):
        export(house, MODEL, None, taken)
    assert not to.exists()


def test_a_wrong_byte_leaves_no_folder(house: House, tmp_path: Path) -> None:
    revision = released(house, "1")
    part = next(house.origin.manifest(revision.digest).parts())
    flip_one_byte(blob_file(house.origin, part.digest))
    with pytest.raises(IntegrityError, match=part.digest):
        export(house, MODEL, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
