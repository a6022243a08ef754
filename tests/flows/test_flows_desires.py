"""A desire opens when the alias moves, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.phases import ReleasePhase
from flows import effects
from flows.desires import Desire, Why, ask_again, desires, observe_candidate, open_rollback, phase_of, unfinished
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


def test_again_opens_a_desire_once_the_release_of_the_version_has_ended(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened is not None
    assert ask_again(ledger, "toy", "1", "test") == opened
    finish(ledger, opened)
    again = ask_again(ledger, "toy", "1", "test")
    assert again == Desire("toy-2", "toy", "1", Why.AGAIN)
    assert ask_again(ledger, "toy", "1", "test") == again


def test_a_reader_that_was_overtaken_reads_the_alias_again(ledger: Ledger) -> None:
    observe_candidate(ledger, "toy", "1", "test")
    named = ["2", "3"]

    def read() -> str:
        if len(named) == 2:
            # Between this reader's look at the alias and its append the alias moves on, and another observer sees it.
            observe_candidate(ledger, "toy", "3", "another")
        return named.pop(0)

    assert observe_candidate(ledger, "toy", read, "test") is None
    assert [desire.version for desire in desires(ledger, "toy")] == ["1", "3"]


class Alias:
    """Where `candidate` points, as MLflow would keep it."""

    def __init__(self, version: str | None) -> None:
        self.version = version

    def read(self) -> str | None:
        return self.version

    def set(self, version: str | None) -> None:
        self.version = version


@pytest.fixture
def second(ledger: Ledger) -> Alias:
    """The alias names version 2, which is known, and whose release has ended."""
    for version in ("1", "2"):
        opened = observe_candidate(ledger, "toy", version, "test")
        assert opened is not None
        finish(ledger, opened)
    return Alias("2")


def back_to(version: str, ledger: Ledger, alias: Alias) -> Desire:
    return open_rollback(ledger, "toy", version, alias.read, "test")


def test_a_rollback_is_opened_before_the_alias_moves_and_the_move_opens_nothing(ledger: Ledger, second: Alias) -> None:
    assert back_to("1", ledger, second) == Desire("toy-3", "toy", "1", Why.ROLLBACK)
    second.set("1")
    assert observe_candidate(ledger, "toy", second.read, "test") is None
    assert len(desires(ledger, "toy")) == 3


def test_a_rollback_that_failed_is_tried_again_although_the_alias_names_its_version_already(ledger: Ledger, second: Alias) -> None:
    failed = back_to("1", ledger, second)
    second.set("1")
    observe_candidate(ledger, "toy", second.read, "test")
    finish(ledger, failed)
    assert back_to("1", ledger, second) == Desire("toy-4", "toy", "1", Why.ROLLBACK)


def test_a_rollback_that_is_asked_for_twice_is_one(ledger: Ledger, second: Alias) -> None:
    assert back_to("1", ledger, second) == back_to("1", ledger, second)


@pytest.mark.parametrize("ended", [False, True])
def test_a_rollback_that_was_cut_off_before_the_alias_moved_is_not_undone(ledger: Ledger, second: Alias, ended: bool) -> None:
    back = back_to("1", ledger, second)
    if ended:
        finish(ledger, back)
    assert observe_candidate(ledger, "toy", second.read, "test") is None
    assert desires(ledger, "toy")[-1] == back


def test_the_next_observer_that_may_sets_the_alias_of_a_rollback_that_was_cut_off(ledger: Ledger, second: Alias) -> None:
    back = back_to("1", ledger, second)
    assert observe_candidate(ledger, "toy", second.read, "test", settle=second.set) is None
    assert second.version == "1"
    assert desires(ledger, "toy")[-1] == back


def test_after_a_rollback_the_next_moves_are_ordinary_releases(ledger: Ledger, second: Alias) -> None:
    back_to("1", ledger, second)
    second.set("1")
    observe_candidate(ledger, "toy", second.read, "test")
    for version in ("2", "1"):
        later = observe_candidate(ledger, "toy", version, "test")
        assert later is not None
        assert (later.version, later.why) == (version, Why.ALIAS)


def test_a_move_elsewhere_wins_over_a_rollback_that_was_cut_off(ledger: Ledger, second: Alias) -> None:
    back_to("1", ledger, second)
    second.set("3")
    later = observe_candidate(ledger, "toy", second.read, "test", settle=second.set)
    assert later == Desire("toy-4", "toy", "3", Why.ALIAS)
    assert second.version == "3"


def test_a_rollback_of_an_alias_that_was_removed_survives_too(ledger: Ledger, second: Alias) -> None:
    second.set(None)
    back = back_to("1", ledger, second)
    assert observe_candidate(ledger, "toy", second.read, "test") is None
    observe_candidate(ledger, "toy", second.read, "test", settle=second.set)
    assert (desires(ledger, "toy")[-1], second.version) == (back, "1")


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

    assert journal.effect(effects.PACKAGE, act)["digest"] == "call 1"
    assert Journal(ledger, opened, 0, "another").effect(effects.PACKAGE, act)["digest"] == "call 1"
    assert len(calls) == 1


def test_an_effect_that_was_only_intended_is_done_again_under_the_same_intent(ledger: Ledger) -> None:
    opened = observe_candidate(ledger, "toy", "1", "test")
    assert opened is not None

    def breaks() -> dict[str, str]:
        raise RuntimeError("killed between intent and completion")

    journal = Journal(ledger, opened, 0, "test")
    with pytest.raises(RuntimeError):
        journal.effect(effects.deploy("mars"), breaks)
    journal.effect(effects.deploy("mars"), lambda: {"state": "ready"})
    intended = [event for event in journal.events() if event.type == "effect.intended"]
    completed = [event for event in journal.events() if event.type == "effect.completed"]
    assert len(intended) == len(completed) == 1
    assert intended[0].intent_id == completed[0].intent_id
