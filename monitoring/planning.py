"""How much of the traffic a canary may have: from what it may cost, and from what is known of it so far.

Until an upper bound says otherwise, every answer of a canary may be bad. Between two moments at which it can be taken away it
answers `requests per second * share * reaction time` requests, of which at most the bound is bad. A share is affordable
when that is no more than half of what is left of the harm budget; the other half is for finding out. So a
canary begins small, grows as clean answers lower the bound, shrinks when bad ones use up the budget, and never waits for a timer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LADDER = (1, 2, 5, 10, 25, 50)
"""The shares in percent that are taken one after the other when none are declared."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a canary meets: requests a second over all regions, and the seconds until it can be taken away."""

    per_second: float
    reaction_seconds: float


def affordable_percent(budget: int, spent: int, bound: float, exposure: Exposure) -> int:
    """Return the largest share in whole percent (0 to 100) that the budget affords.

    `spent` is how many bad answers there were already, `bound` the upper bound of the bad-answer rate in 0..1.
    """
    left = budget - spent
    if left <= 0:
        return 0
    at_risk = exposure.per_second * exposure.reaction_seconds * bound
    return 100 if at_risk <= 0 else min(100, math.floor(100 * left / 2 / at_risk))


def next_percent(budget: int, spent: int, bound: float, exposure: Exposure) -> int:
    """Return the largest share of the ladder that the budget affords; 0 when it affords none. It may be less than before."""
    affordable = affordable_percent(budget, spent, bound, exposure)
    return max((percent for percent in LADDER if percent <= affordable), default=0)


def smallest_budget(exposure: Exposure) -> int:
    """Return the smallest harm budget with which a canary can begin at all, at the first share of the ladder."""
    return math.ceil(2 * exposure.per_second * exposure.reaction_seconds * LADDER[0] / 100)
