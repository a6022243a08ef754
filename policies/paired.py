"""How much worse one model is than another on the same rows, and how sure that is.

A metric that is a mean over rows is compared by the paired bootstrap: rows are drawn anew with both models' answers
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16). The area under the ROC curve is
compared by DeLong's variance of two correlated areas (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988), computed
from midranks (Sun and Xu, IEEE Signal Processing Letters 21, 2014). Whether one classifier is right more often than
another is McNemar's question (Psychometrika 12, 1947), answered exactly by the binomial distribution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
DRAWN_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How sure an interval is (0..1), how often rows are drawn anew, and the seed of the drawing."""

    confidence: float
    resamples: int
    seed: tuple[int, ...]

    @property
    def tail(self) -> float:
        """The part of one side beyond the interval."""
        return (1 - self.confidence) / 2


@dataclass(frozen=True, slots=True)
class Found:
    """An estimate with its interval, held against a limit from above.

    `p_above` is the p-value against "it is at most the limit", `p_within` that against "it is more than the limit".
    """

    estimate: float
    low: float
    high: float
    p_above: float
    p_within: float


def bootstrap(values: Array, limit: float, plan: Plan) -> Found:
    """Return the mean of one value per row with its percentile interval, held against a limit."""
    means = resampled(lambda rows: values[rows].mean(axis=1), len(values), plan)
    low, high = np.quantile(means, (plan.tail, 1 - plan.tail))
    return Found(float(values.mean()), float(low), float(high), *p_values(means, limit))


def resampled(statistic: Any, rows: int, plan: Plan) -> Array:
    """Return a statistic of rows drawn anew; it is given one line of row numbers per drawing."""
    random = np.random.default_rng(plan.seed)
    at_once = max(1, DRAWN_AT_ONCE // rows)
    sizes = [min(at_once, plan.resamples - begun) for begun in range(0, plan.resamples, at_once)]
    drawn = [statistic(random.integers(0, rows, (size, rows), dtype=np.int32)) for size in sizes]
    return np.concatenate(drawn)


def p_values(drawn: Array, limit: float) -> tuple[float, float]:
    """Return how often drawings lie on the wrong side of a limit: at most it, and above it; never 0 (Davison and Hinkley 1997, 4.2)."""
    within = int((drawn <= limit).sum())
    return (1 + within) / (len(drawn) + 1), (1 + len(drawn) - within) / (len(drawn) + 1)


def delong(labels: Array, candidate: Array, champion: Array, limit: float, confidence: float) -> Found:
    """Return by how much the candidate's area under the ROC curve is smaller; needs both labels, 0 and 1."""
    (mine, above, below), (other, others_above, others_below) = (_placements(labels, scores) for scores in (candidate, champion))
    loss = other - mine
    variance = _variance(others_above - above) + _variance(others_below - below)
    return _normal(loss, math.sqrt(variance), limit, confidence)


def area(labels: Array, scores: Array) -> float:
    """Return the area under the ROC curve."""
    return _placements(labels, scores)[0]


def _placements(labels: Array, scores: Array) -> tuple[float, Array, Array]:
    """Return the area, and each positive's and each negative's share of the other label that it is rightly ordered with."""
    from scipy.stats import rankdata

    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores)
    above = (ranks[positive] - rankdata(scores[positive])) / n
    below = 1 - (ranks[~positive] - rankdata(scores[~positive])) / m
    return float(above.mean()), above, below


def _variance(values: Array) -> float:
    """Return the variance of a mean."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else math.inf


def _normal(estimate: float, error: float, limit: float, confidence: float) -> Found:
    if error == 0:
        # Nothing differs from row to row: both models order the rows alike
        above = estimate > limit
        return Found(estimate, estimate, estimate, 0.0 if above else 1.0, 1.0 if above else 0.0)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    within = NormalDist().cdf((estimate - limit) / error)
    return Found(estimate, estimate - reach, estimate + reach, 1 - within, within)


def mcnemar(candidate_right: Array, champion_right: Array) -> tuple[float, float]:
    """Return the exact p-values against "the candidate is right at least as often", and against "it is right less often".

    Models that are right on the same rows are equally often right there: then the second is 0.
    """
    from scipy.stats import binomtest

    lost = int((champion_right & ~candidate_right).sum())
    differ = lost + int((candidate_right & ~champion_right).sum())
    if differ == 0:
        return 1.0, 0.0
    return tuple(float(binomtest(lost, differ, 0.5, alternative=side).pvalue) for side in ("greater", "less"))  # type: ignore[return-value]
