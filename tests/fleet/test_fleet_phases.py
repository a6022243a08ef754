"""A release moves along its table, and its terminal phases are final."""

from __future__ import annotations

import pytest

from fleet.errors import OperationFailed
from fleet.phases import MEANING, NEXT, ReleasePhase, step


def test_every_phase_has_one_sentence_and_a_row_in_the_table() -> None:
    assert set(MEANING) == set(NEXT) == set(ReleasePhase)
    assert all(sentence.endswith(".") for sentence in MEANING.values())


def test_exactly_the_five_endings_are_terminal() -> None:
    assert {phase for phase in ReleasePhase if phase.terminal} == {
        ReleasePhase.PROMOTED,
        ReleasePhase.ROLLED_BACK,
        ReleasePhase.REJECTED,
        ReleasePhase.SUPERSEDED,
        ReleasePhase.FAILED,
    }


def test_every_phase_is_reached_and_every_one_leads_to_an_end() -> None:
    reached, frontier = {ReleasePhase.REQUESTED}, [ReleasePhase.REQUESTED]
    while frontier:
        for phase in NEXT[frontier.pop()] - reached:
            reached.add(phase)
            frontier.append(phase)
    assert reached == set(ReleasePhase)
    assert all(any(after.terminal for after in NEXT[phase]) for phase in ReleasePhase if not phase.terminal)


def test_nothing_follows_an_ending_and_a_jump_is_refused() -> None:
    with pytest.raises(OperationFailed, match="it has ended"):
        step(ReleasePhase.REJECTED, ReleasePhase.CANARY)
    with pytest.raises(OperationFailed, match="cannot go from 'validating' to 'promoting'"):
        step(ReleasePhase.VALIDATING, ReleasePhase.PROMOTING)


def test_traffic_that_moved_is_never_merely_rejected() -> None:
    for phase in (ReleasePhase.CANARY, ReleasePhase.BAKING, ReleasePhase.PROMOTING, ReleasePhase.ROLLING_BACK):
        assert ReleasePhase.REJECTED not in NEXT[phase]
