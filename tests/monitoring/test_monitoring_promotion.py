"""The promotion bound: a canary at the margin seldom passes, a clean one passes after few answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from simulated_canary import at_most

from monitoring.power import clean_answers_needed
from monitoring.promotion import passes, upper_bound

MARGIN, ERROR = 0.01, 0.05
RUNS = 3000


def promoted_at_some_look(rates: np.ndarray, regions: int = 1, margin: float = MARGIN, error: float = ERROR, seed: int = 1) -> float:
    """The fraction of runs in which all regions pass at the same look, asked after every answer."""
    rng = np.random.default_rng(seed)
    attempts = np.arange(1, len(rates) + 1)
    bad = rng.random((RUNS, regions, len(rates))) < rates
    seen = np.cumsum(bad, axis=2)
    needed = np.array([count + clean_answers_needed(margin, error, count, count) for count in range(int(seen.max()) + 1)])
    return float(np.mean((attempts >= needed[seen]).all(axis=1).any(axis=1)))


@pytest.mark.parametrize(
    ("rates", "regions"),
    [
        pytest.param(np.full(4000, MARGIN), 1, id="exactly the margin"),
        pytest.param(np.full(2000, 1.5 * MARGIN), 1, id="above the margin"),
        pytest.param(MARGIN * (1 + (np.arange(3000) // 200) % 2), 1, id="changing, never below the margin"),
        pytest.param(np.full(1500, MARGIN), 3, id="at the margin in all of three regions"),
    ],
)
def test_a_canary_at_or_above_the_margin_is_rarely_promoted_though_asked_after_every_answer(rates: np.ndarray, regions: int) -> None:
    assert promoted_at_some_look(rates, regions) <= at_most(ERROR, RUNS)


def test_the_simulation_would_see_a_broken_promise() -> None:
    """A canary just below the margin is promoted more often than the error level: the bound has power and the test too."""
    assert promoted_at_some_look(np.full(4000, 0.3 * MARGIN)) > 0.9


def test_a_rate_that_only_averages_to_the_margin_may_pass_while_it_is_clean() -> None:
    """The documented limit of the guarantee."""
    assert promoted_at_some_look(np.repeat([0.0, 2 * MARGIN], 1000)) == 1.0


@pytest.mark.parametrize(("bad", "at_least", "at_most_"), [(0, 299, 370), (1, 473, 760), (3, 773, 1200), (10, 1693, 2400)])
def test_few_clean_answers_are_needed_and_a_few_bad_ones_are_survived(bad: int, at_least: int, at_most_: int) -> None:
    """Between the smallest sample of a test at one fixed look and what the steps are sized for."""
    needed = bad + clean_answers_needed(MARGIN, ERROR, attempts=bad, bad=bad)
    assert at_least <= needed <= at_most_


@pytest.mark.parametrize(
    ("attempts", "bad"), [(0, 0), (1, 0), (1, 1), (120, 0), (120, 3), (5000, 40), (1_000_000, 0), (1_000_000, 300_000)]
)
def test_the_bound_is_the_smallest_rate_ruled_out_and_above_the_exact_bound_of_one_look(attempts: int, bad: int) -> None:
    bound = upper_bound(attempts, bad, ERROR)
    assert 0 < bound <= 1
    assert bad / max(attempts, 1) <= bound
    if bound < 1:
        assert passes(attempts, bad, bound, ERROR)
        assert not passes(attempts, bad, bound * (1 - 1e-9), ERROR)
        assert binom.cdf(bad, attempts, bound) <= ERROR


def test_without_answers_or_with_bad_ones_only_nothing_is_ruled_out() -> None:
    assert upper_bound(0, 0, ERROR) == 1.0
    assert upper_bound(50, 50, ERROR) == 1.0


def test_the_answers_needed_are_the_fewest_that_pass() -> None:
    for margin, error, attempts, bad in [(0.01, 0.05, 0, 0), (0.05, 0.01, 40, 2), (0.001, 0.1, 700, 1), (0.5, 0.4, 1, 0)]:
        needed = clean_answers_needed(margin, error, attempts, bad)
        assert passes(attempts + needed, bad, margin, error)
        assert needed == 0 or not passes(attempts + needed - 1, bad, margin, error)


def test_nothing_more_is_needed_once_the_bound_passes() -> None:
    assert clean_answers_needed(MARGIN, ERROR, attempts=5000, bad=0) == 0
