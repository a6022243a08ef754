"""Judging a canary: what was newly seen, the verdict on all of it, and the record of both."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

import monitoring
from fleet.evidence import Verdict
from flows.observed import JUDGED, OBSERVED, Observed, Sides, look_at, observed_in
from flows.work import Work
from monitoring.criteria import Criteria
from monitoring.judge import judge
from monitoring.shadowed import PART, with_part
from monitoring.share import MeasuredShare
from registry.ledger import JSON

CRITERIA: Final = "canary.criteria"
RATE_SECONDS = 30
"""The time to a verdict is told from the canary's requests in so many last seconds."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with what was newly seen before it, as the ledger has it; `seconds_left` to one that is final, None if unknown.

    `wave` is where the walk stood. `held` says why the canary does not simply walk on: people and the clock, which the
    judge does not know of.
    """

    verdict: Verdict
    observed: dict[str, JSON]
    seconds_left: float | None
    held: tuple[str, ...] = ()
    wave: int = 1


def open_case(work: Work, sides: Sides, since: int) -> Observed:
    """Return what has been seen of a canary, and record by what it is judged when that was not recorded or has changed."""
    events = work.journal.events()
    told: dict[str, JSON] = {**criteria(work).as_json(), "canary": sides.canary, "stable": sides.stable, "since": since}
    told |= {"model": work.model, "regions": list(work.regions), "code": judge_version()}
    last = [event.payload for event in events if event.type == CRITERIA]
    if not last or dict(last[-1]) != told:
        work.journal.record(CRITERIA, told)
    return observed_in(events, sides, since)


def judge_now(work: Work, seen: Observed, weight: int, wave: int = 1) -> Judged:
    """Take in what the edges counted since the last look, at a weight in percent in a wave, and judge everything."""
    look, silent = look_at(work.house.edges, seen, int(time.time()) + 1, weight, wave)
    found = judge_seen(work, seen)
    return Judged(replace(found, reasons=(*found.reasons, *silent)), look.as_json(seen.sides), seconds_left(found, seen))


def judge_seen(work: Work, seen: Observed) -> Verdict:
    """Judge everything that was taken in, without a new look."""
    return judge(criteria(work), seen.evidence(work.regions), datetime.now(UTC))


def criteria(work: Work) -> Criteria:
    """Return what fleet.yaml says the release is judged by; a shadow's own answers have had their part of alpha."""
    declared = work.declared
    rates = {region: slo.error_rate for region, slo in declared.slo.items()}
    allowed = declared.predictions
    return Criteria(
        rollback=with_part(declared.rollback, 1 - PART) if declared.traffic.shadow else declared.rollback,
        error_rates=rates,
        shift=None if allowed is None else float(allowed.shift),
        # Without a shadow there are no pairs, and what they have at stake would lie idle
        disagreement=None if allowed is None or declared.traffic.shadow is None else float(allowed.disagreement),
        harm_budget=declared.canary.harm_budget,
    )


def seconds_left(verdict: Verdict, seen: Observed) -> float | None:
    """Return how long the clean answers that a promotion still needs will take, at the canary's present rate."""
    if not verdict.answers_needed:
        return 0.0
    since = seen.horizon - RATE_SECONDS
    recent = [count for count in seen.counts if count.revision == seen.sides.canary and count.second >= since]
    by_region = {count.region: 0 for count in recent}
    for count in recent:
        by_region[count.region] += count.attempts
    slowest = min(by_region.values(), default=0)
    lasted = min(RATE_SECONDS, seen.horizon - seen.since)
    return verdict.answers_needed * lasted / slowest if slowest and lasted > 0 else None


def record(work: Work, judged: Judged, weight: int, share: MeasuredShare) -> None:
    """Write what the judge saw and said into the ledger: counts as integers, figures as decimals in text."""
    verdict = judged.verdict
    regions: list[JSON] = [
        {
            "region": found.region,
            "canary": {"attempts": found.canary_attempts, "bad": found.canary_bad, "slow": found.canary_slow},
            "stable": {"attempts": found.stable_attempts, "bad": found.stable_bad, "slow": found.stable_slow},
            "harm": f"{found.harm:.6g}",
            "upper_bound": f"{found.upper_bound:.6g}",
        }
        for found in verdict.regions
    ]
    work.journal.record(
        JUDGED,
        {
            "weight": weight,
            "measured_share": f"{share.measured:.4f}",
            "outcome": verdict.outcome.value,
            "reasons": list(verdict.reasons),
            "harm": f"{verdict.harm:.6g}",
            "harm_limit": f"{verdict.harm_limit:.6g}",
            "upper_bound": f"{verdict.upper_bound:.6g}",
            "answers_needed": verdict.answers_needed,
            "seconds_left": None if judged.seconds_left is None else math.ceil(judged.seconds_left),
            "metrics": {found.metric.value: f"{found.harm:.6g}" for found in verdict.metrics},
            "only_in": verdict.only_in,
            "regions": regions,
            OBSERVED: judged.observed,
            **({"held": list(judged.held)} if judged.held else {}),
            **({"wave": judged.wave} if judged.wave > 1 else {}),
        },
    )


@cache
def judge_version() -> str:
    """Return which judge this is: Convoy's version, and a digest of the judge's own source."""
    folder = Path(str(monitoring.__file__)).parent
    text = b"".join((folder / f"{name}.py").read_bytes() for name in _JUDGE)
    return f"{version('convoy')}+{hashlib.sha256(text).hexdigest()[:12]}"


_JUDGE: Sequence[str] = ("closing", "conviction", "criteria", "excess", "harm", "judge", "promotion", "shift", "strata", "wealth")
