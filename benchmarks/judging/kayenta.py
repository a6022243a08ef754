"""The decision rule of Kayenta's default judge, re-implemented from its documentation (spinnaker.io: canary/judge); none of its code runs.

Each metric is a series of one value a minute for the canary and one for the baseline. A Mann-Whitney test gives an
interval of 98 % for the shift (normal approximation, corrected for ties and continuity) and the Hodges-Lehmann estimate;
a metric is High when the interval's lower end lies above a quarter of the estimate and the canary's mean is at
least the baseline's, and Low the other way round. Identical series pass. The score is the share of the metrics
that passed, those without data left out; it is 0 when half of them or more have no data. At or below `MARGINAL` the
canary fails at once, and the last look promotes at `PASS` or above.

Its pages advise 50 points or more: they are here at the end, after growing looks every five minutes from the tenth on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from benchmarks.judging.minutes import ByMinute
from benchmarks.judging.peers import Ending
from benchmarks.judging.simulator import Floats

CONFIDENCE = 0.98
TOLERANCE = 0.25
PASS, MARGINAL = 95.0, 75.0
LOOKS = tuple(range(10, 61, 5))
_Z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2)


class Direction(StrEnum):
    """Which way a metric may not move."""

    INCREASE = "increase"
    EITHER = "either"


class Class(StrEnum):
    """What the judge makes of one metric."""

    PASS = "pass"
    HIGH = "high"
    LOW = "low"
    NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Interval:
    """The shift of the canary's values against the baseline's."""

    low: float
    estimate: float
    high: float


METRICS = (("errors", Direction.INCREASE), ("p99_ms", Direction.INCREASE), ("score", Direction.EITHER))


def kayenta(told: ByMinute, looks: tuple[int, ...] = LOOKS) -> Ending:
    """Look at growing windows, in minutes; stop at the first score at or below `MARGINAL`."""
    for minutes in looks:
        classes = [
            classify(getattr(told.canary, name)[:minutes], getattr(told.stable, name)[:minutes], direction) for name, direction in METRICS
        ]
        score = score_of(classes)
        if score <= MARGINAL:
            return Ending(True, False, float(minutes))
    return Ending(False, score >= PASS, float(looks[-1]))


def score_of(classes: list[Class]) -> float:
    """Return the score of one group of metrics, in 0..100."""
    if 2 * classes.count(Class.NO_DATA) >= len(classes):
        return 0.0
    told = [one for one in classes if one is not Class.NO_DATA]
    return 100.0 * told.count(Class.PASS) / len(told)


def classify(canary: Floats, baseline: Floats, direction: Direction) -> Class:
    """Judge one metric; values that are missing (NaN) are left out."""
    x, y = canary[~np.isnan(canary)], baseline[~np.isnan(baseline)]
    if not len(x) or not len(y):
        return Class.NO_DATA
    if len(np.unique(np.concatenate([x, y]))) == 1 or (len(x) == len(y) and np.array_equal(np.sort(x), np.sort(y))):
        return Class.PASS
    found = shift_between(x, y)
    if found is None:
        return Class.PASS
    tolerated = TOLERANCE * abs(found.estimate)
    # The effect size is 1 where the baseline's mean is 0, so that this check says nothing there
    ratio = float(x.mean() / y.mean()) if y.mean() else 1.0
    if found.low > tolerated and ratio >= 1:
        return Class.HIGH
    if direction is Direction.EITHER and found.high < -tolerated and ratio <= 1:
        return Class.LOW
    return Class.PASS


def shift_between(x: Floats, y: Floats) -> Interval | None:
    """Return the interval by order statistics of all differences; None where each sample has but one value.

    The test's root lies where the number of larger differences crosses its quantile; it is cut to their range.
    """
    pairs = len(x) * len(y)
    ties = sum(float((counts**3 - counts).sum()) for counts in (np.unique(sample, return_counts=True)[1] for sample in (x, y)))
    size = len(x) + len(y)
    sigma = math.sqrt(max(pairs / 12 * (size + 1 - ties / (size * (size - 1))), 0.0))
    if not sigma:
        return None
    differences = np.sort(np.subtract.outer(x, y), axis=None)
    rank = math.floor(pairs / 2 + 0.5 + _Z * sigma) + 1
    place = max(pairs - rank, 0)
    return Interval(float(differences[place]), float(np.median(differences)), float(differences[pairs - 1 - place]))
