"""The promotion bound: a canary at the margin seldom passes, a clean one passes after few answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from simulated_canary import START, Place, at_most, simulate, steps, strata_of

from monitoring.power import clean_answers_needed
from monitoring.promotion import Seen, passes, seen_in, together, upper_bound
from monitoring.strata import Strata

MARGIN, ERROR = 0.01, 0.05
RUNS = 3000


def promoted_at_some_look(rates: np.ndarray, regions: int = 1, margin: float = MARGIN, error: float = ERROR, seed: int = 1) -> float:
    """The fraction of runs in which all regions pass at the same look, asked after every answer."""
    rng = np.random.default_rng(seed)
    attempts = np.arange(1, len(rates) + 1)
    bad = rng.random((RUNS, regions, len(rates))) < rates
    seen = np.cumsum(bad, axis=2)
    needed = np.array([count + clean_answers_needed(margin, error, Seen(count, count)) for count in range(int(seen.max()) + 1)])
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


def test_what_is_bounded_is_the_average_so_far_so_a_canary_that_is_clean_first_may_pass_while_it_is() -> None:
    """The documented limit of the guarantee: nothing is said about the time after the verdict."""
    assert promoted_at_some_look(np.repeat([0.0, 2 * MARGIN], 1000)) == 1.0


def test_a_canary_that_is_bad_first_and_clean_later_is_judged_by_its_average_so_far() -> None:
    """Clean answers later dilute what was bad first, but the bound holds at every look: it seldom lies below the average."""
    rng = np.random.default_rng(5)
    rates = np.repeat([3 * MARGIN, 0.0], [1000, 2000])
    attempts, averages = np.arange(1, 3001), np.cumsum(rates) / np.arange(1, 3001)
    too_low = 0
    for _ in range(400):
        bad = np.cumsum(rng.random(3000) < rates)
        looks = range(0, 3000, 25)
        too_low += any(passes(Seen(int(attempts[i]), int(bad[i])), float(averages[i]), ERROR) for i in looks)
    assert too_low / 400 <= at_most(ERROR, 400)


def test_the_difference_from_stable_bounds_a_canary_whose_stable_errs_as_well() -> None:
    """Both err at 3 %: no bound of the rate could pass a margin of 2 %, the bound of the difference does."""
    rng = np.random.default_rng(6)
    regions = [simulate(rng, Place(20, 0.03), np.full(3600, 0.3)) for _ in range(2)]
    rate, difference = (together(seen_in(region, bound) for region in regions) for bound in ("rate", "difference"))
    assert not passes(rate, 0.02, ERROR)
    assert passes(difference, 0.02, ERROR)
    assert -0.01 < upper_bound(difference, ERROR, "difference") < 0.02


@pytest.mark.parametrize(
    "places",
    [
        pytest.param((Place(20, 0.02, odds_ratio=1.515),), id="steady"),
        pytest.param((Place(20, 0.02, odds_ratio=1.515, wave=0.9),), id="a daily wave"),
        pytest.param(
            (Place(20, 0.001, odds_ratio=11, share_factor=0.3), Place(9, 0.2, odds_ratio=1.064, share_factor=1.8)), id="uneven regions"
        ),
    ],
)
def test_a_canary_that_lies_above_stable_by_the_margin_is_rarely_promoted(places: tuple[Place, ...]) -> None:
    """Looked at every 20 seconds, over rising weights; the canary is worse by one percentage point or a little more."""
    rng = np.random.default_rng(7)
    promoted = 0
    for _ in range(300):
        regions = [simulate(rng, place, steps(5, 25, 50, seconds=200)) for place in places]
        seen = [[seen_in(_until(region, second), "difference") for region in regions] for second in range(20, 600, 20)]
        promoted += any(passes(together(look), MARGIN, ERROR) for look in seen)
    assert promoted / 300 <= at_most(ERROR, 300)


@pytest.mark.parametrize(("bad", "at_least", "at_most_"), [(0, 299, 345), (1, 473, 760), (3, 773, 1200), (10, 1693, 2400)])
def test_few_clean_answers_are_needed_and_a_few_bad_ones_are_survived(bad: int, at_least: int, at_most_: int) -> None:
    """Between the smallest sample of a test at one fixed look and what the steps are sized for."""
    needed = bad + clean_answers_needed(MARGIN, ERROR, Seen(bad, bad))
    assert at_least <= needed <= at_most_


@pytest.mark.parametrize(
    ("attempts", "bad"), [(0, 0), (1, 0), (1, 1), (120, 0), (120, 3), (5000, 40), (1_000_000, 0), (1_000_000, 300_000)]
)
def test_the_bound_is_the_smallest_rate_ruled_out_and_above_the_exact_bound_of_one_look(attempts: int, bad: int) -> None:
    bound = upper_bound(Seen(attempts, bad), ERROR)
    assert 0 < bound <= 1
    assert bad / max(attempts, 1) <= bound
    if bound < 1:
        assert passes(Seen(attempts, bad), bound, ERROR)
        assert not passes(Seen(attempts, bad), bound * (1 - 1e-9), ERROR)
        assert binom.cdf(bad, attempts, bound) <= ERROR


def test_without_answers_or_with_bad_ones_only_nothing_is_ruled_out() -> None:
    assert upper_bound(Seen(0, 0), ERROR) == 1.0
    assert upper_bound(Seen(50, 50), ERROR) == 1.0


def test_the_answers_needed_are_the_fewest_that_pass() -> None:
    for margin, error, attempts, bad in [(0.01, 0.05, 0, 0), (0.05, 0.01, 40, 2), (0.001, 0.1, 700, 1), (0.5, 0.4, 1, 0)]:
        needed = clean_answers_needed(margin, error, Seen(attempts, bad))
        assert passes(Seen(attempts + needed, bad), margin, error)
        assert needed == 0 or not passes(Seen(attempts + needed - 1, bad), margin, error)


def test_nothing_more_is_needed_once_the_bound_passes() -> None:
    assert clean_answers_needed(MARGIN, ERROR, Seen(5000, 0)) == 0


def _until(strata: Strata, seconds: int) -> Strata:
    seen = strata.second < START + seconds
    return strata_of(
        *(column[seen] for column in (strata.second, strata.canary.attempts, strata.canary.bad, strata.stable.attempts, strata.stable.bad))
    )
