"""Do the canary's predictions differ from stable's? Bets on the difference of the mean scores.

In a stratum (region, edge, second) where both revisions answered, D is the canary's mean score less stable's; scores lie
in 0..1. Against "the means differ by at most delta" we bet on a shift upwards, 1 + b*(D - delta)/(1 + delta), and on one
downwards, with -D in the place of D. As D - delta is at least -(1 + delta), no stake is ever lost entirely, and the mean
of each factor is at most 1 while the conditional means differ by no more than delta, whatever the scores' distribution and however it
changes (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86(1), 2024).
The deltas that the wealth rules out leave a confidence sequence of the shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.strata import MILLION, Arm, Floats, Strata
from monitoring.wealth import Bets

FRACTIONS = (0.05, 0.15, 0.4, 0.8)
WEIGHTS = (1 / 8,) * 8


@dataclass(frozen=True, slots=True)
class Shift:
    """By how much the canary's mean score lies above stable's: between `low` and `high` at every look, at the error level asked for."""

    low: float
    high: float


def shift_bets(strata: Strata, allowed: float) -> Bets:
    """Bet in one region that the mean scores differ by more than `allowed` (0..1), upwards and downwards."""
    difference, told = _differences(strata)
    upwards, downwards = _logs(difference, told, allowed), _logs(-difference, told, allowed)
    return Bets(strata.second, np.cumsum(np.concatenate([upwards, downwards], axis=1), axis=0))


def shift_of(regions: Sequence[Strata], error: float) -> Shift:
    """Return a confidence sequence of the shift over all regions, at the error level `error`."""
    told = [_differences(strata) for strata in regions]
    difference = np.concatenate([found[has] for found, has in told])
    return Shift(low=-_largest(-difference, error / 2), high=_largest(difference, error / 2))


def _largest(difference: Floats, error: float) -> float:
    """Return the upper bound of the mean: the smallest value above which every value is ruled out."""
    low, high = -1.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if _rules_out(difference, middle, error):
            high = middle
        else:
            low = middle
    return high


def _rules_out(difference: Floats, mean: float, error: float) -> bool:
    """Whether a mean of `mean` or more (below 1) is ruled out: bets on less, which never lose all, win 1/error."""
    gains = np.log1p(np.array(FRACTIONS) * ((mean - difference) / (1 - mean))[:, None])
    wealth = np.logaddexp.reduce(gains.sum(axis=0)) - np.log(len(FRACTIONS))
    return bool(wealth >= -np.log(error))


def _differences(strata: Strata) -> tuple[Floats, np.ndarray]:
    """Return each stratum's difference of the mean scores, and where there is one."""
    told = (strata.canary.scored > 0) & (strata.stable.scored > 0)
    return np.where(told, _means(strata.canary) - _means(strata.stable), 0.0), told


def _means(arm: Arm) -> Floats:
    return np.asarray(arm.score_sum / (np.maximum(arm.scored, 1) * MILLION), dtype=np.float64)


def _logs(difference: Floats, told: np.ndarray, allowed: float) -> Floats:
    gains = np.log1p(np.array(FRACTIONS) * ((difference - allowed) / (1 + allowed))[:, None])
    return np.where(told[:, None], gains, 0.0)
