"""What ran out of time is never promoted."""

from __future__ import annotations

import pytest

from fleet.declared import Canary, Step
from fleet.evidence import Outcome, Verdict
from fleet.versions import Revision
from flows.canary import Pair, unless_late, unless_set_back
from flows.observed import Observed, Sides
from flows.orders import Go, Orders, Turn, turn
from flows.stages import Stage

STEP = Step(weight=5, seconds=1)
SEEN = Observed(Sides("toy", "sha256:b", "sha256:a"), since=1000)


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
    told = Turn(Go.OVER, ("its time is up",)) if late else Turn()
    assert unless_late(Stage(0, STEP, last), verdict(found), told).outcome is becomes


@pytest.mark.parametrize("found", list(Outcome))
@pytest.mark.parametrize(("now", "steady"), [(997.0, 500.0), (1300.0, 803.5)], ids=["before the canary began", "by three seconds"])
def test_a_clock_that_was_set_back_leaves_no_verdict_but_a_bad_one(found: Outcome, now: float, steady: float) -> None:
    pair = Pair(Revision("toy", "2", "sha256:b"), Revision("toy", "1", "sha256:a"), since=1000, offset=500.0, seen=SEEN)
    judged = unless_set_back(pair, verdict(found), now, steady)
    assert judged.outcome is (Outcome.ROLL_BACK if found is Outcome.ROLL_BACK else Outcome.NOT_ENOUGH_DATA)
    assert found is Outcome.ROLL_BACK or "set back" in judged.reasons[0]


@pytest.mark.parametrize(("now", "steady"), [(1000.0, 500.0), (1299.0, 800.0), (5000.0, 800.0)], ids=["at once", "slewed", "set forward"])
def test_a_clock_that_goes_on_leaves_the_verdict_as_it_is(now: float, steady: float) -> None:
    pair = Pair(Revision("toy", "2", "sha256:b"), Revision("toy", "1", "sha256:a"), since=1000, offset=500.0, seen=SEEN)
    assert unless_set_back(pair, verdict(Outcome.PROMOTE), now, steady) == verdict(Outcome.PROMOTE)


def test_the_reasons_say_that_time_ran_out() -> None:
    told = turn(Canary(max_seconds=600), Orders(), since=0, now=601)
    assert "within 600 s" in unless_late(Stage(0, STEP, last=False), verdict(Outcome.PROMOTE), told).reasons[0]
