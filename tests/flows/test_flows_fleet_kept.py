"""Each release records the fleet.yaml that it went by; an earlier one is shown and restored by its digest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from control import fleet_commands
from fleet.canonical import digest_of
from fleet.errors import FleetFileError, InputError, IntegrityError, UnknownName, Unreachable
from flows.desires import Desire, model_stream, observe_candidate, open_rollback, release_stream
from flows.fleet_kept import (
    READ,
    RESTORED,
    STREAM,
    fleet_history,
    keep_fleet,
    kept_fleet,
    record_fleet,
    rehearse_restoration,
    restore_fleet,
)
from flows.house import House
from flows.work import Work, claim
from registry.ledger import NewEvent
from registry.store import ContentStore
from support.stack import house_without_servers


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("CONVOY_HOME", str(tmp_path))
    return house_without_servers(tmp_path)


@pytest.fixture
def work(house: House) -> Iterator[Work]:
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert isinstance(desire, Desire)
    with claim(house, "toy", "test") as claimed, disable_run_logger():
        assert claimed is not None
        yield Work.of(house, desire, claimed)


def recorded(house: House, release: str = "toy-1") -> list[object]:
    return [event.payload["digest"] for event in house.ledger.stream(release_stream(release), READ)]


def changed(house: House, name: str) -> bytes:
    """Give the fleet another name, as a person edits the file; returns the bytes."""
    document = json.loads(house.fleet_file.read_bytes())
    house.fleet_file.write_text(json.dumps(document | {"name": name}, indent=1))
    vars(house).pop("fleet_text", None)
    vars(house).pop("fleet", None)
    return house.fleet_file.read_bytes()


def test_a_release_records_once_what_it_went_by_and_the_text_is_kept_to_the_byte(house: House, work: Work) -> None:
    text = house.fleet_file.read_bytes()
    record_fleet(work)
    record_fleet(work)
    assert recorded(house) == [digest_of(text)]
    assert kept_fleet(house, digest_of(text)) == (digest_of(text), text)


def test_a_fleet_that_was_changed_under_way_is_recorded_as_well(house: House, work: Work) -> None:
    first = house.fleet_file.read_bytes()
    record_fleet(work)
    second = changed(house, "other")
    record_fleet(work)
    assert recorded(house) == [digest_of(first), digest_of(second)]
    assert [each.releases for each in fleet_history(house)] == [("toy-1",), ("toy-1",)]


def test_a_store_without_room_holds_up_a_release_and_no_rollback(house: House, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise Unreachable("store origin", "no space left")

    stable = {"version": "1", "digest": keep_fleet(house, b"{}"), "release": "toy-0"}
    house.ledger.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))
    monkeypatch.setattr(ContentStore, "has_blob", lambda *_: True)
    monkeypatch.setattr(ContentStore, "note", full)
    with pytest.raises(Unreachable):
        record_fleet(work)
    back = open_rollback(house.ledger, "toy", "1", lambda: "2", "test")
    record_fleet(Work.of(house, back, work.claim))
    assert recorded(house, back.release) == []


def test_an_earlier_one_is_restored_to_the_byte_and_so_is_the_one_that_it_replaced(house: House, work: Work) -> None:
    first = house.fleet_file.read_bytes()
    record_fleet(work)
    second = changed(house, "other")
    house.fleet_file.chmod(0o640)
    done = restore_fleet(house, digest_of(first)[7:15], "test")
    assert house.fleet_file.read_bytes() == first
    assert house.fleet_file.stat().st_mode & 0o777 == 0o640
    assert (done.before, done.after) == (digest_of(second), digest_of(first))
    assert '- "name": "other"' in done.difference
    assert '+ "name": "tests"' in done.difference.replace("  ", " ")
    restore_fleet(house, digest_of(second), "test")
    assert house.fleet_file.read_bytes() == second
    assert [event.payload["digest"] for event in house.ledger.stream(STREAM, RESTORED)] == [digest_of(first), digest_of(second)]


def test_a_rehearsal_and_what_is_refused_leave_the_file_and_the_ledger_as_they_were(house: House, work: Work) -> None:
    record_fleet(work)
    digest, events = digest_of(house.fleet_file.read_bytes()), house.ledger.head()
    broken = keep_fleet(house, b"version: 1\nname: [\n")
    unknown = keep_fleet(house, b"version: 1\nname: x\nregions: {}\nmodels: {}\nsurprise: 1\n")
    second = changed(house, "other")
    assert rehearse_restoration(house, digest)[0].difference
    for wrong, error in (
        ("sha256:" + "0" * 64, UnknownName),
        ("no digest", UnknownName),
        ("", UnknownName),
        (broken, FleetFileError),
        (unknown, FleetFileError),
    ):
        with pytest.raises(error):
            restore_fleet(house, wrong, "test")
    keep_fleet(house, second)
    with pytest.raises(InputError, match="in force"):
        restore_fleet(house, digest_of(second), "test")
    assert house.fleet_file.read_bytes() == second
    assert house.ledger.head() == events


def test_a_kept_text_with_other_bytes_is_never_restored(house: House, work: Work) -> None:
    record_fleet(work)
    digest = digest_of(house.fleet_file.read_bytes())
    changed(house, "other")
    (house.home.origin_store / "fleets" / digest.removeprefix("sha256:")).write_bytes(b"version: 1\n")
    with pytest.raises(IntegrityError, match="other bytes"):
        restore_fleet(house, digest, "test")


def test_a_link_stays_a_link_to_the_restored_file(house: House, work: Work, tmp_path: Path) -> None:
    first = house.fleet_file.read_bytes()
    record_fleet(work)
    changed(house, "other")
    real = tmp_path / "real.yaml"
    house.fleet_file.rename(real)
    house.fleet_file.symlink_to(real)
    restore_fleet(house, digest_of(first), "test")
    assert house.fleet_file.is_symlink()
    assert real.read_bytes() == first


def test_the_commands_show_the_history_the_text_and_the_difference(
    house: House, work: Work, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    first = house.fleet_file.read_bytes()
    record_fleet(work)
    changed(house, "other")
    fleet_commands.show_history(as_json=True)
    (told,) = json.loads(capfdbinary.readouterr().out)
    assert (told["digest"], told["releases"], told["in_force"]) == (digest_of(first), ["toy-1"], False)
    fleet_commands.show_text(digest_of(first))
    assert capfdbinary.readouterr().out == first
    fleet_commands.restore(digest_of(first), dry_run=True, as_json=True)
    assert json.loads(capfdbinary.readouterr().out)["after"] == digest_of(first)
    assert house.fleet_file.read_bytes() != first
    fleet_commands.restore(digest_of(first), dry_run=False, as_json=True)
    assert house.fleet_file.read_bytes() == first
