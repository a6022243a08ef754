"""What a metrics server would tell the peers: canary and stable, minute by minute, over all places together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.judging.simulator import MILLION, SECONDS, Flags, Floats, Ints, Traffic

MINUTES = SECONDS // 60
BUCKETS_MS = np.array([0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000])
"""The upper ends of Istio's histogram of request durations."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One revision, minute by minute; a minute without requests has no number (NaN).

    `errors` is the share of bad answers in 0..1, `p99_ms` what histogram_quantile makes of the buckets, `score` the mean.
    """

    requests: Ints
    errors: Floats
    p99_ms: Floats
    score: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ByMinute:
    """Both revisions."""

    canary: Series
    stable: Series


def by_minute(several: Sequence[Traffic]) -> ByMinute:
    """Sum up all edges."""
    end = np.concatenate([traffic.end_ms for traffic in several])
    inside = end < SECONDS * 1000
    minute = (end // 60_000)[inside]
    canary, bad, took, score = (
        np.concatenate([getattr(traffic, name) for traffic in several])[inside] for name in ("canary", "bad", "took_ms", "score")
    )
    return ByMinute(*(_series(minute[arm], bad[arm], took[arm], score[arm]) for arm in (canary, ~canary)))


def quantile_of(buckets: Ints, share: float) -> Floats:
    """Return the quantile as Prometheus estimates it: linear inside the bucket that holds it, at most the last finite end."""
    total = np.cumsum(buckets, axis=-1)
    rank = share * total[..., -1:]
    place = np.minimum((total < rank).sum(axis=-1), len(BUCKETS_MS) - 1)
    rows = np.arange(len(place))
    ends = np.concatenate([[0.0], BUCKETS_MS])
    below = np.where(place > 0, total[rows, place - 1], 0)
    inside = np.maximum(total[rows, place] - below, 1)
    estimate = ends[place] + (ends[place + 1] - ends[place]) * np.minimum((rank[:, 0] - below) / inside, 1)
    return np.where(total[:, -1] > 0, estimate, np.nan)


def _series(minute: Ints, bad: Flags, took: Ints, score: Ints) -> Series:
    requests = np.bincount(minute, minlength=MINUTES)
    scored = np.bincount(minute, weights=score >= 0, minlength=MINUTES)
    width = len(BUCKETS_MS) + 1
    bucket = np.searchsorted(BUCKETS_MS, took, side="left")
    buckets = np.bincount(minute * width + bucket, minlength=MINUTES * width).reshape(MINUTES, width)
    return Series(
        requests,
        _ratio(np.bincount(minute, weights=bad, minlength=MINUTES), requests),
        quantile_of(buckets, 0.99),
        _ratio(np.bincount(minute, weights=np.maximum(score, 0) / MILLION, minlength=MINUTES), scored),
    )


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
