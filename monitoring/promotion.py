"""Is the canary good enough? An anytime-valid upper bound of its bad-answer rate, or of how far it lies above stable's.

Let attempt i of the canary be bad with the conditional probability p_i, whatever came before. For k in (0, 1],
l = -log(1-k): the mean of exp(-l*X_i) is 1 - k*p_i, at most exp(-k*p_i). In a stratum where the canary had n attempts and
stable m, each bad with probability q, the mean of (1 + k*n/m)^Y over stable's bad attempts Y is at most
(1 + k*n/m*q)^m, at most exp(k*n*q). So with B bad attempts of the canary

    exp(-l*B) * product over the strata of (1 + k*n/m)^Y * exp(k * sum of n*(p - q))

is a nonnegative supermartingale that starts at 1, and so is a mixture over k (the exponential bounds behind
Freedman, "On tail probabilities for martingales", Annals of Probability 3(1), 1975; Howard et al., "Time-uniform Chernoff
bounds via nonnegative supermartingales", Probability Surveys 17, 2020). By Ville's inequality it ever reaches 1/error with a
chance of at most `error`, so all sums of n*(p - q) at which the formula gives 1/error or more are ruled out at all looks at once.
Left without stable's factor (q = 0) it bounds the sum of the canary's own rates p.

What is bounded is therefore the canary's **average** rate, or difference, over its own attempts so far: weighted by where and
when its requests went, valid however rates change with time, place and weight. A margin m is passed when a
sum of m times its attempts is ruled out. Nothing is said about the time after the verdict.

How many clean answers it takes, for 1 % at 5 %: k = 1 alone would need 300 (an all-in bet, of no use after the first
bad answer); the mixture here takes 336; a Beta(1/2, 1/2) mixture 680. The first bad answer costs about 380 more, each further one 200.

Per region every region must pass, each at the full error level. That is an intersection-union test: promoting wrongly means that some
region's average is at the margin or above, and that region's own test alone makes it improbable (Berger, "Multiparameter
hypothesis testing and acceptance sampling", Technometrics 24(4), 1982). Over all traffic one bound must pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.strata import Floats, Strata

Bound = Literal["rate", "difference"]

_K = np.array([1.0, 0.88, 0.65, 0.40, 0.20])
_STAKES = np.log(np.array([0.5, 0.2, 0.15, 0.1, 0.05]))
_PENALTIES = -np.log1p(-_K[1:])
"""What a bad attempt costs each bet but the first, which one bad attempt ruins."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What bounds a canary: its attempts, the bad ones, and what stable's bad ones speak in its favour, bet by bet."""

    attempts: int
    bad: int
    credit: tuple[float, ...] = (0.0,) * len(_K)

    def __add__(self, other: Seen) -> Seen:
        credit = tuple(mine + its for mine, its in zip(self.credit, other.credit, strict=True))
        return Seen(self.attempts + other.attempts, self.bad + other.bad, credit)

    def with_clean(self, attempts: int) -> Seen:
        """Return the same after so many more attempts of the canary without a bad one."""
        return Seen(self.attempts + attempts, self.bad, self.credit)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """The same stratum by stratum: running sums, one row per stratum; `credit` has a column per bet."""

    attempts: Floats
    bad: Floats
    credit: Floats


def seen_in(strata: Strata, bound: Bound) -> Seen:
    """Sum up one region for a bound."""
    credit = tuple(float(value) for value in _credit(strata, bound).sum(axis=0))
    return Seen(int(strata.canary.attempts.sum()), int(strata.canary.bad.sum()), credit)


def together(regions: Iterable[Seen]) -> Seen:
    """Sum up all regions; the bound over all traffic weighs each by the canary's attempts there."""
    return sum(regions, Seen(0, 0))


def course_of(strata: Strata, bound: Bound) -> Course:
    """Return the running sums of one region."""
    attempts, bad = (np.cumsum(column).astype(np.float64) for column in (strata.canary.attempts, strata.canary.bad))
    return Course(attempts, bad, np.cumsum(_credit(strata, bound), axis=0))


def log_e_values(course: Course, margin: float) -> Floats:
    """Return the logarithm of the evidence, stratum by stratum, that the average so far lies below `margin`."""
    return _log_e(course.bad, course.credit, course.attempts * margin)


def log_e_value(seen: Seen, margin: float) -> float:
    """Return the logarithm of the evidence that the average so far lies below `margin`."""
    return float(_log_e(np.array([float(seen.bad)]), np.array([seen.credit]), np.array([seen.attempts * margin]))[0])


def passes(seen: Seen, margin: float, error: float) -> bool:
    """Whether the upper bound at error level `error` lies at or below `margin`."""
    return log_e_value(seen, margin) >= -math.log(error)


def upper_bound(seen: Seen, error: float, bound: Bound = "rate") -> float:
    """Return the smallest average that is ruled out at error level `error`; 1.0 when none is.

    A difference may lie below 0. The evidence grows with the average, so bisection finds it.
    """
    low, high = (0.0 if bound == "rate" else -1.0), 1.0
    if not passes(seen, high, error):
        return 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if passes(seen, middle, error):
            high = middle
        else:
            low = middle
    return high


def _log_e(bad: Floats, credit: Floats, total: Floats) -> Floats:
    """Return the logarithm of the mixture for a sum `total` of rates or differences."""
    first = np.where(bad > 0, -np.inf, _STAKES[0] + credit[:, 0] + _K[0] * total)
    others = _STAKES[1:] - bad[:, None] * _PENALTIES + credit[:, 1:] + _K[1:] * total[:, None]
    return np.asarray(np.logaddexp.reduce(np.concatenate([first[:, None], others], axis=1), axis=1), dtype=np.float64)


def _credit(strata: Strata, bound: Bound) -> Floats:
    """Return what stable's bad attempts are worth in each stratum; nothing where its rate is not subtracted."""
    if bound == "rate":
        return np.zeros((len(strata.second), len(_K)))
    ratio = strata.canary.attempts / np.maximum(strata.stable.attempts, 1)
    return np.asarray(strata.stable.bad[:, None] * np.log1p(ratio[:, None] * _K), dtype=np.float64)
