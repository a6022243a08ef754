"""The peers' rules, as re-implemented, come to the figures that their documented rules were found to have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from benchmarks.judging.kayenta import CONFIDENCE, Class, Direction, classify, score_of, shift_between
from benchmarks.judging.minutes import BUCKETS_MS, Series, quantile_of
from benchmarks.judging.peers import argo_rollouts, by_errors_alone, flagger, limit_for

RUNS = 1500
FAST = 50.0


def series(requests: np.ndarray, bad: np.ndarray) -> Series:
    """Minutes with so many requests and bad answers, all of them fast."""
    none = requests == 0
    errors = np.where(none, np.nan, bad / np.maximum(requests, 1))
    return Series(requests, errors, np.where(none, np.nan, FAST), np.zeros(len(requests)))


def healthy(rng: np.random.Generator, minutes: int, per_minute: int, errors: float) -> Series:
    requests = np.full(minutes, per_minute)
    return series(requests, rng.binomial(requests, errors))


@pytest.mark.parametrize(("per_minute", "share"), [(20, 0.63), (100, 0.61), (1000, 0.13)])
def test_argo_rollouts_default_aborts_healthy_releases_as_often_as_was_found(per_minute: int, share: float) -> None:
    """Ten samples, at most 1 % errors asked for, 0.5 % true."""
    rng = np.random.default_rng(1)
    aborted = np.mean([argo_rollouts(healthy(rng, 10, per_minute, 0.005), 0.01).rolled_back for _ in range(RUNS)])
    assert aborted == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(("per_minute", "share"), [(20, 0.30), (100, 0.53), (1000, 0.50)])
def test_flagger_rolls_healthy_releases_back_as_often_as_was_found(per_minute: int, share: float) -> None:
    """Five failed of 25 checks, at most 1 % errors asked for, 0.8 % true."""
    rng = np.random.default_rng(2)
    rolled_back = np.mean([flagger(healthy(rng, 25, per_minute, 0.008), 0.01).rolled_back for _ in range(RUNS)])
    assert rolled_back == pytest.approx(share, abs=0.04)


def test_flagger_counts_failed_checks_and_never_forgets_them() -> None:
    requests, bad = np.full(12, 100), np.array([5, 0, 5, 0, 5, 0, 5, 0, 0, 0, 5, 5])
    assert flagger(series(requests, bad), 0.01).minutes == 11
    assert flagger(series(requests, np.where(np.arange(12) < 10, bad, 0)), 0.01).promoted


def test_a_minute_without_requests_fails_for_flagger_and_passes_for_argo_rollouts() -> None:
    silent = series(np.zeros(10, dtype=np.int64), np.zeros(10, dtype=np.int64))
    assert (flagger(silent, 0.01).rolled_back, flagger(silent, 0.01).minutes) == (True, 5)
    assert argo_rollouts(silent, 0.01).promoted


def test_a_slow_tail_fails_the_check_of_the_99th_percentile() -> None:
    slow = Series(np.full(10, 100), np.zeros(10), np.full(10, 501.0), np.zeros(10))
    assert flagger(slow, 0.01).minutes == 5
    assert argo_rollouts(slow, 0.01).minutes == 1


def test_a_rule_by_errors_alone_sums_up_its_windows() -> None:
    bad = np.array([0, 0, 0, 0, 9, 0, 0, 0, 0, 11])
    assert by_errors_alone(series(np.full(10, 100), bad), 0.02, every=5, enough=1).minutes == 10
    assert by_errors_alone(series(np.full(10, 100), bad), 0.02, every=1, enough=1).minutes == 5


def test_a_user_who_knows_stables_errors_sets_the_limit_half_way_to_twice_as_many() -> None:
    assert limit_for(0.01) == pytest.approx(0.015)
    assert limit_for(0.0) == 0.01


def test_the_99th_percentile_is_estimated_inside_its_bucket_as_a_metrics_server_does() -> None:
    buckets = np.zeros((2, len(BUCKETS_MS) + 1), dtype=np.int64)
    buckets[0, [7, 8]] = 97, 3
    assert quantile_of(buckets, 0.99)[0] == pytest.approx(250 + 250 * 2 / 3)
    assert np.isnan(quantile_of(buckets, 0.99)[1])


@pytest.mark.parametrize(("points", "share"), [(2, 0.23), (3, 0.053), (4, 0.009), (5, 0.001)])
def test_kayenta_fails_a_metric_of_few_points_as_often_as_was_found(points: int, share: float) -> None:
    rng = np.random.default_rng(3)
    drawn = rng.normal(10, 1, (4000, 2, points))
    failed = np.mean([classify(canary, baseline, Direction.EITHER) is not Class.PASS for canary, baseline in drawn])
    assert failed == pytest.approx(share, abs=0.02 if points < 4 else 0.006)


@pytest.mark.parametrize(
    ("correlation", "looks", "share"), [(0.0, 1, 0.0), (0.5, 1, 0.028), (0.8, 1, 0.14), (0.0, 11, 0.003), (0.5, 11, 0.10), (0.8, 11, 0.35)]
)
def test_kayenta_fails_an_autocorrelated_metric_as_often_as_was_found(correlation: float, looks: int, share: float) -> None:
    """An increase alone counts."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(400):
        canary, baseline = (10 + autocorrelated(rng, 60, correlation) for _ in range(2))
        windows = np.linspace(10, 60, looks).astype(int) if looks > 1 else [60]
        failed += any(classify(canary[:end], baseline[:end], Direction.INCREASE) is not Class.PASS for end in windows)
    assert failed / 400 == pytest.approx(share, abs=0.06)


def test_kayenta_passes_errors_in_half_of_the_minutes_where_stable_has_none() -> None:
    canary = np.array([0, 3, 0, 2, 0, 4, 0, 1, 0, 2]) / 100
    assert classify(canary, np.zeros(10), Direction.INCREASE) is Class.PASS


def test_kayenta_passes_a_canary_that_varies_more() -> None:
    rng = np.random.default_rng(5)
    assert classify(rng.normal(10, 5, 60), rng.normal(10, 0.5, 60), Direction.EITHER) is Class.PASS


def test_kayenta_leaves_missing_metrics_out_and_fails_when_half_are_missing() -> None:
    nothing = np.full(10, np.nan)
    assert classify(nothing, np.ones(10), Direction.EITHER) is Class.NO_DATA
    assert score_of([Class.PASS, Class.PASS, Class.NO_DATA]) == 100
    assert score_of([Class.PASS, Class.HIGH, Class.PASS]) == pytest.approx(200 / 3)
    assert score_of([Class.PASS, Class.NO_DATA, Class.NO_DATA]) == 0


def test_the_interval_is_cut_to_the_range_of_the_differences_for_few_points() -> None:
    found = shift_between(np.array([10.0, 20, 30, 40]), np.array([1.0, 2, 3, 4]))
    assert found is not None
    assert (found.low, found.estimate, found.high) == (6, 22.5, 39)


@pytest.mark.parametrize("ties", [False, True])
def test_the_interval_ends_where_the_rank_test_crosses_its_quantile(ties: bool) -> None:
    """Against the definition: ranks of the shifted sample, corrected for ties and continuity."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(1, 1, 40), rng.normal(0, 1, 35)
    if ties:
        x, y = np.round(x, 1), np.round(y, 1)
    found = shift_between(x, y)
    assert found is not None
    z = norm.ppf(1 - (1 - CONFIDENCE) / 2)
    assert statistic(x, y, found.low - 1e-6) > z >= statistic(x, y, found.low + 1e-6)
    assert statistic(x, y, found.high - 1e-6) >= -z > statistic(x, y, found.high + 1e-6)


def statistic(x: np.ndarray, y: np.ndarray, shift: float) -> float:
    ranks = rankdata(np.concatenate([x - shift, y]))
    size, pairs = len(ranks), len(x) * len(y)
    above = ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2 - pairs / 2
    counts = np.unique(ranks, return_counts=True)[1].astype(float)
    sigma = np.sqrt(pairs / 12 * (size + 1 - (counts**3 - counts).sum() / (size * (size - 1))))
    return float((above - np.sign(above) * 0.5) / sigma)


def autocorrelated(rng: np.random.Generator, size: int, correlation: float) -> np.ndarray:
    found = np.empty(size)
    last = rng.normal()
    for place in range(size):
        last = found[place] = correlation * last + np.sqrt(1 - correlation**2) * rng.normal()
    return found
