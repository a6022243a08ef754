"""The decision rules of Flagger and Argo Rollouts, re-implemented from their documentation; no code of theirs runs.

Both look at one number a minute, the canary's own, and hold it against a fixed limit. What they are given here is
more than their users have: the limit lies half way between stable's usual share of bad answers, which is known, and
twice that. They follow the row's clock and weights; what a failed check delays in Flagger (a minute each) is left out.

- Flagger (docs.flagger.app: usage/metrics, usage/deployment-strategies): a check a minute of success rate (`min`) and P99
  (`max: 500`); "no values found" fails it too. With `threshold` failed checks in all it rolls back; passed ones
  never lower the count. Its examples have `threshold: 5` and `min: 99`.
- Argo Rollouts (argo-rollouts.readthedocs.io: features/analysis): a measurement a minute in the background;
  more than `failureLimit` failed ones, by default 0, abort. A minute without requests passes, as its page on NaN advises.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.judging.minutes import Series
from benchmarks.judging.simulator import Flags

P99_MS = 500.0
HEADROOM = 1.5
SMALLEST_LIMIT = 0.01
"""Where stable never errs, a success rate of 99 % is asked for, as in Flagger's examples."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a rule ended a release: rolled back or promoted after so many minutes, or neither."""

    rolled_back: bool
    promoted: bool
    minutes: float


def limit_for(usual: float, headroom: float = HEADROOM) -> float:
    """Return the largest share of bad answers that passes, from stable's usual one."""
    return max(usual * headroom, SMALLEST_LIMIT)


def flagger(canary: Series, limit: float, threshold: int = 5) -> Ending:
    """Roll back at the failed check that makes `threshold`; promote when the steps are through."""
    too_slow = np.isnan(canary.p99_ms) | (canary.p99_ms > P99_MS)
    return ending(np.isnan(canary.errors) | (canary.errors > limit) | too_slow, threshold)


def argo_rollouts(canary: Series, limit: float, failure_limit: int = 0) -> Ending:
    """Abort at the failed measurement that exceeds `failure_limit`; promote when the steps are through."""
    measured = [canary.errors > limit, canary.p99_ms > P99_MS]
    endings = [ending(failed, failure_limit + 1) for failed in measured]
    return min(endings, key=lambda one: (not one.rolled_back, one.minutes))


def by_errors_alone(canary: Series, limit: float, every: int, enough: int) -> Ending:
    """Return how a rule ends that looks at the success rate only, every so many minutes; no requests, no failure."""
    windows = canary.requests.reshape(-1, every).sum(axis=1)
    bad = np.nan_to_num(canary.errors * canary.requests).reshape(-1, every).sum(axis=1)
    found = ending(bad > limit * windows, enough)
    return Ending(found.rolled_back, found.promoted, found.minutes * every)


def ending(failed: Flags, enough: int) -> Ending:
    """Return how a release ends whose minutes failed or passed so, when `enough` failed ones roll it back."""
    places = np.flatnonzero(failed)
    if len(places) >= enough:
        return Ending(True, False, float(places[enough - 1] + 1))
    return Ending(False, True, float(len(failed)))
