"""`convoy judge`: a verdict is judged again from the ledger alone, and comes out as it was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from control.judge_command import as_document, judged_again, parse
from fleet.declared import Rollback
from fleet.errors import InputError, UnknownName
from fleet.evidence import AttemptCount, Attempts
from flows.desires import Desire, observe_candidate
from flows.house import House
from flows.journal import Journal
from flows.judging import CRITERIA, judge_version
from flows.observed import JUDGED, OBSERVED, Observed, Sides
from monitoring.criteria import Criteria
from monitoring.judge import judge
from support.stack import house_without_servers

SIDES = Sides("toy", "sha256:" + "c" * 64, "sha256:" + "5" * 64)
REGIONS = ("us-east-1", "europe-west4")
SINCE = 1_795_000_000
POLICY = Criteria(Rollback(margin=0.05), dict.fromkeys(REGIONS, 0.2))


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


def judged(house: House, canary_errors: float, seconds: int = 60) -> str:
    """Record a canary that was looked at every ten seconds until it had a verdict; returns the release."""
    desire = observe_candidate(house.ledger, "toy", "1", "test")
    assert isinstance(desire, Desire)
    journal = Journal(house.ledger, desire, 0, "test")
    told = {
        "canary": SIDES.canary,
        "stable": SIDES.stable,
        "since": SINCE,
        "model": "toy",
        "regions": list(REGIONS),
        "code": judge_version(),
    }
    journal.record(CRITERIA, {**POLICY.as_json(), **told})
    rng, seen = np.random.default_rng(3), Observed(SIDES, SINCE)
    for start in range(SINCE, SINCE + seconds, 10):
        look = seen.take_in({"edge": Attempts(tuple(_counts(rng, start, canary_errors)), start + 10)}, 50)
        event_time = house.ledger.events()[-1].at
        verdict = judge(POLICY, seen.evidence(REGIONS), event_time)
        payload = {"weight": 50, "outcome": verdict.outcome.value, "harm": f"{verdict.harm:.6g}", OBSERVED: look.as_json(SIDES)}
        journal.record(JUDGED, payload)
    return desire.release


def test_a_rollback_comes_out_again_with_every_figure(house: House) -> None:
    again = judged_again(house, judged(house, canary_errors=0.3), {})
    assert again.differs == ()
    assert again.recorded == again.verdict.outcome == "roll back"
    assert again.decided.second is not None
    assert SINCE <= again.decided.second < SINCE + 60


def test_other_limits_give_another_verdict_and_are_told(house: House) -> None:
    release = judged(house, canary_errors=0.12, seconds=30)
    strict, loose = (judged_again(house, release, {"alpha": alpha}) for alpha in ("0.3", "1e-40"))
    assert strict.verdict.outcome == "roll back"
    assert loose.verdict.outcome == "not enough data"
    assert as_document(loose)["changed"] == {"alpha": "1e-40"}
    assert list(as_document(judged_again(house, release, {"stakes.slow": "0"}))["metrics"]) == ["errors", "objective"]
    assert judged_again(house, release, {"rollback.margin": "0.5"}).verdict.answers_needed == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"alpa": "0.1"}, "limit 'alpa': does not exist .known here: alpha"),
        ({"stakes": "1"}, "limit 'stakes': does not exist"),
        ({"stakes.bananas": "1"}, "limit 'stakes.bananas'"),
        ({"alpha": "2"}, "alpha: Input should be less than 0.5"),
        ({"alpha": "much"}, "alpha: Input should be a valid number"),
    ],
)
def test_a_limit_that_does_not_exist_or_is_not_allowed_is_refused(house: House, changes: dict[str, str], says: str) -> None:
    release = judged(house, canary_errors=0.0, seconds=10)
    with pytest.raises(InputError, match=says):
        judged_again(house, release, changes)


@pytest.mark.parametrize("given", [["alpha"], ["=1"], ["alpha="], ["alpha=1", "alpha=2"]])
def test_what_is_no_change_is_refused(given: list[str]) -> None:
    with pytest.raises(InputError, match="NAME=VALUE"):
        parse(given)


def test_a_release_without_a_canary_or_that_nobody_knows_is_named(house: House) -> None:
    with pytest.raises(UnknownName, match="no release has that name"):
        judged_again(house, "toy-99", {})
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert isinstance(desire, Desire)
    Journal(house.ledger, desire, 0, "test").interrupted(InputError("x", "y"))
    with pytest.raises(UnknownName, match="had no canary"):
        judged_again(house, desire.release, {})


def test_a_record_that_does_not_come_out_again_is_told(house: House) -> None:
    release = judged(house, canary_errors=0.3, seconds=20)
    desire = next(iter(house.ledger.stream(f"release/{release}"))).stream
    journal_payload: dict[str, Any] = {"weight": 50, "outcome": "promote", "harm": "0.1"}
    journal_payload[OBSERVED] = {"counts": [], "pairs": [], "complete_to": {"edge": SINCE + 20}}
    from registry.ledger import NewEvent

    house.ledger.append(NewEvent(desire, JUDGED, journal_payload, "test"))
    again = judged_again(house, release, {})
    assert any("outcome was recorded as promote and is roll back now" in told for told in again.differs)


def _counts(rng: np.random.Generator, start: int, canary_errors: float) -> list[AttemptCount]:
    counts = []
    for second in range(start, start + 10):
        for region in REGIONS:
            for revision, errors in ((SIDES.canary, canary_errors), (SIDES.stable, 0.02)):
                counts.append(AttemptCount(second, "edge", "toy", revision, region, 10, int(rng.binomial(10, errors))))
    return counts
