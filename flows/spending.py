"""A canary that follows its harm budget: which share it may have now, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fleet.declared import Canary, Step
from fleet.evidence import Verdict
from flows.work import Work
from monitoring.planning import LADDER, Exposure, next_percent, smallest_budget
from monitoring.promotion import Seen, upper_bound
from traffic.edges import observe

RATE_SECONDS = 30
"""The requests a second are those of so many last seconds."""
COUNTING_SECONDS = 3.0
"""So long, beside a tick, until an answer is counted and a share is taken away: the agent's fold and the edges' switch."""
SHORTEST_STEP = 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """The share in percent that the budget affords (0: none), and in words what it follows from."""

    percent: int
    why: str


def steps_of(canary: Canary) -> tuple[Step, ...]:
    """Return the steps of a canary: those declared, or the whole ladder where the harm budget decides how far it is climbed."""
    return tuple(Step(weight=percent, seconds=SHORTEST_STEP) for percent in LADDER) if canary.follows_budget else canary.steps


def allowance(work: Work, verdict: Verdict) -> Allowance | None:
    """Return what the harm budget affords after a verdict; None where it does not decide the shares."""
    canary = work.declared.canary
    if not canary.follows_budget or canary.harm_budget is None:
        return None
    attempts, bad = (sum(getattr(region, name) for region in verdict.regions) for name in ("canary_attempts", "canary_bad"))
    bound = upper_bound(Seen(attempts, bad), work.declared.rollback.promotion_error)
    exposure = exposure_of(work)
    percent = next_percent(canary.harm_budget, bad, bound, exposure)
    left = f"the harm budget has {canary.harm_budget - bad} of {canary.harm_budget} bad answers left"
    rates = f"at {exposure.per_second:.1f} requests a second and a bad-answer rate of at most {bound:.1%}"
    why = f"{left}; {rates} it affords {f'{percent} %' if percent else 'no share'}"
    begins = f"; to begin at all takes a budget of {smallest_budget(exposure)}" if not attempts and not percent else ""
    return Allowance(percent, why + begins)


def exposure_of(work: Work) -> Exposure:
    """Return the model's requests a second over all edges, and how long a share stays before it can be taken away."""
    now = int(time.time())
    told = observe(work.house.edges, work.model, now - RATE_SECONDS)
    live = sum(count.attempts - count.stand_ins for count in told.counts if count.traffic == "live")
    lasted = max(1, told.complete_to - (now - RATE_SECONDS))
    return Exposure(live / lasted, work.house.settings.tick_seconds + COUNTING_SECONDS)
