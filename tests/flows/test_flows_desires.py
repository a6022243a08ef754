"""A desire opens when the alias moves, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.phases import ReleasePhase
from flows.desires import Desire, Why, ask_again, ask_rollback, desires, observe_candidate, phase_of, unfinished
from flows.journal import Journal
from registry.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.migrate()
    return found


def finish(ledger: Ledger, desire: Desire) -> None:
    journal = Journal(ledger, desire, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    journal.enter(ReleasePhase.REJECTED, "a gate said no")


def test_seeing_the_same_version_again_opens_nothing(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened == Desire("toy-1", "toy", "1", Why.ALIAS)
    assert [observe_candidate(ledger, "toy", "1", "test") for _ in range(10)] == [None] * 10
    assert len(desires(ledger, "toy")) == 1


def test_a_rejected_version_is_not_wanted_again_until_the_alias_has_moved_away_and_back(ledger: Ledger) -> None:
    for version in ("1", "2"):
        opened = observe_candidate(ledger, "toy", version, "test")
        assert opened is not None
        finish(ledger, opened)
    assert unfinished(ledger, "toy") == ()
    assert observe_candidate(ledger, "toy", "2", "test") is None
    assert observe_candidate(ledger, "toy", "1", "test") is not None
    assert observe_candidate(ledger, "toy", "2", "test") == Desire("toy-4", "toy", "2", Why.ALIAS)


def test_an_alias_that_was_removed_and_set_again_opens_a_desire(ledger: Ledger) -> None:
    observe_candidate(ledger, "toy", "1", "test")
    assert observe_candidate(ledger, "toy", None, "test") is None
    assert observe_candidate(ledger, "toy", "1", "test") is not None


def test_again_opens_a_desire_for_the_version_that_is_named_already(ledger: Ledger) -> None:
    observe_candidate(ledger, "toy", "1", "test")
    assert ask_again(ledger, "toy", "1", "test").why is Why.AGAIN


def test_only_the_move_that_was_asked_for_is_a_rollback(ledger: Ledger) -> None:
    observe_candidate(ledger, "toy", "1", "test")
    observe_candidate(ledger, "toy", "2", "test")
    ask_rollback(ledger, "toy", "1", "test")
    back = observe_candidate(ledger, "toy", "1", "test")
    assert back is not None
    assert back.why is Why.ROLLBACK
    later = observe_candidate(ledger, "toy", "2", "test")
    assert later is not None
    assert later.why is Why.ALIAS


def test_a_release_is_told_again_from_its_events(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened is not None
    assert phase_of(ledger, opened.release) is ReleasePhase.REQUESTED
    journal = Journal(ledger, opened, 0, "test")
    for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.VALIDATING, ReleasePhase.PACKAGING):
        journal.enter(phase)
    assert phase_of(ledger, opened.release) is ReleasePhase.PACKAGING
    assert [event.payload["phase"] for event in journal.events()] == ["validating", "packaging"]


def test_an_effect_is_done_once_and_its_result_comes_from_the_ledger_afterwards(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened is not None
    journal, calls = Journal(ledger, opened, 0, "test"), []

    def act() -> dict[str, str]:
        calls.append(1)
        return {"digest": f"call {len(calls)}"}

    assert journal.effect("package", act)["digest"] == "call 1"
    assert Journal(ledger, opened, 0, "another").effect("package", act)["digest"] == "call 1"
    assert len(calls) == 1


def test_an_effect_that_was_only_intended_is_done_again_under_the_same_intent(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened is not None

    def breaks() -> dict[str, str]:
        raise RuntimeError("killed between intent and completion")

    journal = Journal(ledger, opened, 0, "test")
    with pytest.raises(RuntimeError):
        journal.effect("deploy:mars", breaks)
    journal.effect("deploy:mars", lambda: {"state": "ready"})
    intended = [event for event in journal.events() if event.type == "effect.intended"]
    completed = [event for event in journal.events() if event.type == "effect.completed"]
    assert len(intended) == len(completed) == 1
    assert intended[0].intent_id == completed[0].intent_id
