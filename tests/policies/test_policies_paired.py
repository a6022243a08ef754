"""The statistics that the gates conclude from: right where the answer is known, and as often right as they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import roc_auc_score

from policies.calibrating import calibration_error, edges_of, reliability
from policies.paired import Found, Plan, area, bootstrap, delong, mcnemar
from policies.quality_verdict import holm

CONFIDENCE = 0.9
TRIALS = 200
LEAST_COVERED = 0.9 - 3 * math.sqrt(0.9 * 0.1 / TRIALS)
"""What 200 trials of a right 90 % interval cover, but for one chance in a thousand."""


def labelled(seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and the scores of two models that share most of what they know: areas 0.802 and 0.760."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < 0.4).astype(int)
    shared = random.normal(size=rows)
    better, worse = (gap * labels + 0.8 * shared + 0.6 * random.normal(size=rows) for gap in (1.2, 1.0))
    return labels, worse, better


def normal_area(gap: float) -> float:
    return 0.5 * (1 + math.erf(gap / math.sqrt(2) / math.sqrt(2)))


def covered(truth: float, draw: Callable[[int], Found]) -> float:
    found = [draw(seed) for seed in range(TRIALS)]
    return sum(one.low <= truth <= one.high for one in found) / TRIALS


def test_delongs_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    truth = normal_area(1.2) - normal_area(1.0)

    def draw(seed: int) -> Found:
        labels, candidate, champion = labelled(seed)
        return delong(labels, candidate, champion, 0.0, CONFIDENCE)

    assert covered(truth, draw) >= LEAST_COVERED


def test_the_bootstraps_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    def draw(seed: int) -> Found:
        values = np.random.default_rng(seed).exponential(1.0, 150)
        return bootstrap(values, 0.0, Plan(CONFIDENCE, 400, (seed,)))

    assert covered(1.0, draw) >= LEAST_COVERED


def test_a_loss_at_its_limit_is_called_above_it_no_more_often_than_allowed() -> None:
    limit = normal_area(1.2) - normal_area(1.0)
    false = 0
    for seed in range(TRIALS):
        labels, candidate, champion = labelled(seed)
        false += delong(labels, candidate, champion, limit, CONFIDENCE).p_above <= 0.05
    assert false / TRIALS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_delong_gives_the_areas_and_the_variance_of_the_definition() -> None:
    labels, candidate, champion = labelled(1, rows=60)
    candidate = candidate.round(1)
    found = delong(labels, candidate, champion, 0.0, 0.95)
    assert area(labels, candidate) == pytest.approx(roc_auc_score(labels, candidate))
    assert found.estimate == pytest.approx(roc_auc_score(labels, champion) - roc_auc_score(labels, candidate))
    positive, negative = labels == 1, labels == 0

    def ordered(scores: np.ndarray) -> np.ndarray:
        gaps = scores[positive][:, None] - scores[negative][None, :]
        return np.where(gaps > 0, 1.0, np.where(gaps == 0, 0.5, 0.0))

    lost = ordered(champion) - ordered(candidate)
    variance = lost.mean(axis=1).var(ddof=1) / positive.sum() + lost.mean(axis=0).var(ddof=1) / negative.sum()
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-6)


def test_models_that_answer_alike_have_lost_nothing_for_certain() -> None:
    labels, scores, _ = labelled(2)
    right = scores > 0.5
    for found in (delong(labels, scores, scores, 0.0, 0.95), bootstrap(np.zeros(300), 0.0, Plan(0.95, 200, (1,)))):
        assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
        assert found.p_above == 1.0
        assert found.p_within <= 0.005
    assert mcnemar(right, right) == (1.0, 0.0)


def test_mcnemar_counts_only_the_rows_on_which_the_models_differ() -> None:
    candidate = np.array([True] * 90 + [False] * 8 + [True] * 2)
    champion = np.array([True] * 90 + [True] * 8 + [False] * 2)
    above, within = mcnemar(candidate, champion)
    assert above == pytest.approx(sum(math.comb(10, wins) for wins in range(8, 11)) / 2**10)
    assert within == pytest.approx(sum(math.comb(10, wins) for wins in range(9)) / 2**10)


def test_the_same_rows_give_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(3).normal(size=200)
    assert bootstrap(values, 0.0, Plan(0.95, 300, (7,))) == bootstrap(values, 0.0, Plan(0.95, 300, (7,)))
    assert bootstrap(values, 0.0, Plan(0.95, 300, (7,))) != bootstrap(values, 0.0, Plan(0.95, 300, (8,)))


def test_the_calibration_error_of_a_calibrated_model_is_found_small_and_of_another_large() -> None:
    false = right = 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        scores = random.random(1200)
        labels = (random.random(1200) < scores).astype(int)
        bold = np.clip(0.5 + (scores - 0.5) * 1.6, 0, 1)
        edges = edges_of(scores, 10, "width")
        plan = Plan(0.95, 200, (seed,))
        false += calibration_error(labels, scores, edges, 0.03, plan).p_above <= 0.025
        right += calibration_error(labels, bold, edges, 0.03, plan).p_above <= 0.025
    assert false <= 2
    assert right >= 9


def test_bins_hold_every_row_once_and_say_what_happened_there() -> None:
    scores = np.array([0.0, 0.05, 0.5, 0.5, 0.95, 1.0])
    labels = np.array([0, 0, 0, 1, 1, 1])
    table = reliability(labels, scores, edges_of(scores, 10, "width"))
    assert [(one.rows, one.predicted, one.observed) for one in table] == [(2, 0.025, 0.0), (2, 0.5, 0.5), (2, 0.975, 1.0)]
    assert sum(one.rows for one in reliability(labels, scores, edges_of(scores, 3, "rows"))) == 6
    assert len(edges_of(np.full(50, 0.5), 10, "rows")) == 3, "equal rows are not torn apart"


def test_holm_is_the_published_example() -> None:
    assert holm((0.01, 0.04, 0.03, 0.005)) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm(()) == ()


@given(some.lists(some.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_the_order_rejects_no_more_than_alone_and_no_less_than_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    ordered = [adjusted[index] for index in sorted(range(len(p_values)), key=p_values.__getitem__)]
    assert all(low <= high for low, high in pairwise(ordered))
    for alone, several in zip(p_values, adjusted, strict=True):
        assert alone <= several <= min(1.0, alone * len(p_values))
    backwards = tuple(reversed(p_values))
    assert sorted(holm(backwards)) == sorted(adjusted), "the order in which they are asked does not matter"
