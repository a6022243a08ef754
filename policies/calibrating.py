"""Whether probabilities mean what they say: the reliability of bins, the expected calibration error, the Brier score.

The expected calibration error is the mean over rows of the distance between what their bin predicts and what happened
there (Naeini, Cooper and Hauskrecht, AAAI 2015). It is never negative and so too large on few rows (Kumar, Liang and Ma,
NeurIPS 2019); the basic bootstrap interval (Davison and Hinkley 1997, 5.2) takes that bias back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from policies.paired import Array, Found, Plan, bootstrap, p_values, resampled

Binning = Literal["width", "rows"]


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose probability lies from `low` to below `high`: how many, the mean probability, the share of label 1."""

    low: float
    high: float
    rows: int
    predicted: float
    observed: float


def reliability(labels: Array, scores: Array, edges: Array) -> tuple[Bin, ...]:
    """Return the bins that have rows."""
    which = _bin_of(scores, edges)
    found = []
    for number in range(len(edges) - 1):
        inside = which == number
        if inside.any():
            predicted, observed = float(scores[inside].mean()), float(labels[inside].mean())
            found.append(Bin(float(edges[number]), float(edges[number + 1]), int(inside.sum()), predicted, observed))
    return tuple(found)


def edges_of(scores: Array, bins: int, binning: Binning) -> Array:
    """Return the ends of bins over 0..1, of equal width or of equally many rows (fewer where many rows are equal)."""
    if binning == "width":
        return np.linspace(0, 1, bins + 1)
    inner = np.quantile(scores, np.arange(1, bins) / bins)
    return np.unique(np.concatenate(([0.0], inner, [1.0])))


def calibration_error(labels: Array, scores: Array, edges: Array, limit: float, plan: Plan) -> Found:
    """Return the expected calibration error, held against a limit."""
    which, residuals = _bin_of(scores, edges), labels - scores
    bins = len(edges) - 1

    def errors(rows: Array) -> Array:
        lines = (which[rows] + np.arange(len(rows))[:, None] * bins).ravel()
        sums = np.bincount(lines, weights=residuals[rows].ravel(), minlength=len(rows) * bins).reshape(len(rows), bins)
        return np.asarray(np.abs(sums).sum(axis=1) / rows.shape[1])

    estimate = float(errors(np.arange(len(scores))[None, :])[0])
    mirrored = np.maximum(2 * estimate - resampled(errors, len(scores), plan), 0)
    low, high = np.quantile(mirrored, (plan.tail, 1 - plan.tail))
    return Found(estimate, float(low), float(high), *p_values(mirrored, limit))


def brier_score(labels: Array, scores: Array, limit: float, plan: Plan) -> Found:
    """Return the Brier score, the mean squared distance between probability and label (Brier 1950), held against a limit."""
    return bootstrap((scores - labels) ** 2, limit, plan)


def _bin_of(scores: Array, edges: Array) -> Array:
    """Return each row's bin; the last one holds its upper end too."""
    return np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, len(edges) - 2)
