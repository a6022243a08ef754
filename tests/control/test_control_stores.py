"""The commands that look after what is stored: `convoy scrub`, `convoy export` and `convoy copy-image`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bentos.oci.modelpack import read_modelpack
from control.cli import app
from fleet.errors import InputError, UnknownName
from flows.house import House
from flows.tending import STORES
from flows.work import claim
from support.stack import REGIONS, house_without_servers
from support.stored import MODEL, blob_file, flip_one_byte, released


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    found = house_without_servers(tmp_path / "home")
    monkeypatch.setenv("CONVOY_HOME", str(found.home.root))
    return found


def typed(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_a_scrub_repairs_what_is_wrong_and_exits_5_only_where_it_cannot(house: House) -> None:
    revision = released(house, "1")
    part = next(house.origin.manifest(revision.digest).parts())
    store = house.region_store(REGIONS[0])
    flip_one_byte(blob_file(store, part.digest))
    done = typed("scrub", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    (fault,) = told["stores"][REGIONS[0]]["faults"]
    assert (fault["kind"], fault["named_by"], told["problems"]) == ("wrong", [revision.digest], [])
    assert "repaired" not in typed("scrub").stdout
    for name in (house.origin, *(house.region_store(region) for region in REGIONS)):
        blob_file(name, part.digest).unlink()
    done = typed("scrub", "--due")
    assert done.exit_code == 5
    assert "no peer has it" in done.stdout.replace("\n", " ")


def test_two_scrubs_at_once_and_an_unknown_region_are_refused(house: House) -> None:
    with claim(house, STORES, "another"):
        assert isinstance(typed("scrub").exception, InputError)
    assert isinstance(typed("scrub", "--region", "nowhere").exception, UnknownName)


def test_a_revision_is_exported(house: House, tmp_path: Path) -> None:
    revision = released(house, "1")
    done = typed("export", MODEL, "--out", str(tmp_path / "artifact"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["revision"]["digest"] == revision.digest == read_modelpack(tmp_path / "artifact").digest


def test_an_image_without_a_registry_is_refused() -> None:
    assert isinstance(typed("copy-image", "model:1", "registry.example.org/model:1").exception, InputError)
