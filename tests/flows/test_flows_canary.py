"""What ran out of time is never promoted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fleet.declared import Canary, Step
from fleet.evidence import Outcome, Verdict
from flows.canary import Stage, unless_late

WORK: Any = SimpleNamespace(declared=SimpleNamespace(canary=Canary(max_seconds=600)))
STEP = Step(weight=5, seconds=1)


def verdict(outcome: Outcome) -> Verdict:
    return Verdict(outcome, ("because",), 0.0, 20.0, ())


@pytest.mark.parametrize(
    ("last", "late", "found", "becomes"),
    [
        (False, True, Outcome.PROMOTE, Outcome.NOT_ENOUGH_DATA),
        (False, True, Outcome.ROLL_BACK, Outcome.ROLL_BACK),
        (False, False, Outcome.PROMOTE, Outcome.PROMOTE),
        (True, True, Outcome.PROMOTE, Outcome.PROMOTE),
    ],
)
def test_time_that_ran_out_after_an_early_step_leaves_no_verdict(last: bool, late: bool, found: Outcome, becomes: Outcome) -> None:
    assert unless_late(WORK, Stage(0, STEP, last), verdict(found), late).outcome is becomes


def test_the_reasons_say_that_time_ran_out() -> None:
    assert "within 600 s" in unless_late(WORK, Stage(0, STEP, last=False), verdict(Outcome.PROMOTE), late=True).reasons[0]
