"""Reconcile signs the ledger's head and copies it to every region; a ledger that a region contradicts is not acted on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from sqlalchemy import delete, update

from fleet.errors import LedgerBroken
from fleet.phases import ReleasePhase
from flows import reconcile as module
from flows.anchoring import anchor, ends_a_release
from flows.desires import observe_candidate
from flows.house import House
from flows.journal import Journal
from flows.reconcile import reconcile
from registry.ledger import NewEvent
from registry.tables import EVENTS, HEAD, TREE_HEADS
from support.stack import house_without_servers


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose first release was rejected, and whose head was signed then."""
    found = house_without_servers(tmp_path)
    monkeypatch.setattr(House, "open", lambda: found)
    monkeypatch.setattr(module, "drop_late_runs", lambda: None)
    desire = observe_candidate(found.ledger, "toy", "1", "test")
    assert desire is not None
    journal = Journal(found.ledger, desire, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    anchored(found)
    assert found.ledger.tree_heads() == ()
    journal.enter(ReleasePhase.REJECTED, "as the test wants it")
    anchored(found)
    return found


def anchored(house: House) -> None:
    with disable_run_logger():
        anchor(house)


def heads(house: House, region: str) -> list[str]:
    return list(house.region_store(region).notes("heads"))


def test_a_releases_end_is_signed_and_copied_to_every_region(house: House) -> None:
    (signed,) = house.ledger.tree_heads()
    assert signed.head.size == house.ledger.head().seq
    assert {region: heads(house, region) for region in house.fleet.regions} == {key: ["000000000001"] for key in house.fleet.regions}


def test_a_region_whose_store_cannot_be_opened_is_caught_up_later(house: House) -> None:
    first = next(iter(house.fleet.regions))
    store = house.home.region_store(first)
    shutil.rmtree(store)
    store.write_text("in the way")
    house.ledger.append(NewEvent("release/toy-1", "phase.entered", {"phase": "failed"}, "test"))
    anchored(house)
    assert len(house.ledger.tree_heads()) == 2
    store.unlink()
    anchored(house)
    assert heads(house, first) == ["000000000001", "000000000002"]


def test_nothing_acts_on_a_ledger_whose_tail_was_cut_with_its_head(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_acts(*_: object) -> None:
        raise AssertionError("it acted")

    monkeypatch.setattr(module, "look_at_alias", nothing_acts)
    last = house.ledger.events()[-2]
    with house.ledger.database.writing() as connection:
        connection.execute(delete(EVENTS).where(EVENTS.c.seq > last.seq))
        connection.execute(update(HEAD).values(seq=last.seq, hash=last.hash))
        connection.execute(delete(TREE_HEADS))
    assert house.ledger.verify() == last.seq
    with disable_run_logger(), pytest.raises(LedgerBroken, match=r"ledger head 1 in the ledger: is gone") as broken:
        reconcile.fn()
    assert broken.value.exit_code == 6


@pytest.mark.parametrize(("phase", "ends"), [("promoted", True), ("rolled back", True), ("canary", False)])
def test_only_a_last_phase_ends_a_release(house: House, phase: str, ends: bool) -> None:
    event = house.ledger.append(NewEvent("release/toy-1", "phase.entered", {"phase": phase}, "test"))
    assert ends_a_release(event) is ends
    assert not ends_a_release(house.ledger.append(NewEvent("release/toy-1", "note", {"phase": phase}, "test")))
