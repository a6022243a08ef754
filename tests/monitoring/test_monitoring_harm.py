"""The test for harm: never more false rollbacks than declared, and few bad answers until real harm is seen."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from savvi.multinomial import Multinomial
from scipy.special import betaln
from simulated_canary import (
    REGIONS,
    START,
    Place,
    at_most,
    ever_rolled_back,
    harm,
    simulate,
    steady,
    steps,
    strata_of,
    with_assumed_share,
)

from monitoring.harm import MIXTURE, Mixture, harm_bets
from monitoring.strata import Strata
from monitoring.wealth import POOLED

ALPHA = 0.05
RUNS = 1000
CANARY_STEPS = steps(5, 25, 50, seconds=90)
UNEVEN = (Place(30, 0.001, share_factor=1.6), Place(15, 0.05, share_factor=0.5), Place(5, 0.3, share_factor=0.9))
WAVES = (Place(25, 0.02, wave=0.9), Place(25, 0.1, wave=-0.9, share_factor=0.3), Place(10, 0.01, wave=0.5))


@pytest.mark.parametrize("odds_ratio", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("truth", [0.3, 0.8, 1.0])
def test_the_expected_evidence_of_a_second_is_at_most_one_for_every_canary_that_is_no_worse(odds_ratio: float, truth: float) -> None:
    """Exactly, over all small tables: bad attempts follow Fisher's noncentral hypergeometric law."""
    worst = 0.0
    for canary, stable in itertools.product(range(1, 11), range(1, 11)):
        for bad in range(1, canary + stable + 1):
            of_canary = np.arange(max(0, bad - stable), min(canary, bad) + 1)
            weights = np.array([comb(canary, x) * comb(stable, bad - x) for x in of_canary]) * (truth * odds_ratio) ** of_canary
            for multiple in MIXTURE.multiples:
                evidence = _evidence_of_each(canary, of_canary, stable, bad - of_canary, odds_ratio, multiple)
                worst = max(worst, float((weights / weights.sum()) @ evidence))
    assert worst <= 1 + 1e-9
    assert truth < 1.0 or worst == pytest.approx(1), "a single bad attempt is a fair bet at the odds ratio allowed: no power is given away"


@pytest.mark.parametrize(
    ("places", "odds_ratio"),
    [
        pytest.param((Place(17, 0.01),) * 3, 1.0, id="three equal regions"),
        pytest.param((Place(17, 0.3),) * 3, 1.0, id="30 % errors everywhere"),
        pytest.param((Place(6, 0.6), Place(17, 0.3), Place(3, 0.8)), 1.0, id="even more errors, few requests"),
        pytest.param(UNEVEN, 1.0, id="uneven base rates and shares"),
        pytest.param(WAVES, 1.0, id="daily waves in rates and traffic"),
        pytest.param((Place(30, 0.05, odds_ratio=0.5), Place(15, 0.2, odds_ratio=1.0)), 1.0, id="a canary that is better"),
        pytest.param((Place(30, 0.05, odds_ratio=1.2), Place(15, 0.3, odds_ratio=1.2)), 1.2, id="exactly the odds ratio allowed"),
    ],
)
def test_a_canary_that_is_no_worse_is_rarely_rolled_back_though_looked_at_every_second(
    places: tuple[Place, ...], odds_ratio: float
) -> None:
    rolled_back, _ = ever_rolled_back(places, CANARY_STEPS, RUNS, seed=11, odds_ratio=odds_ratio)
    assert rolled_back <= ALPHA


def test_a_larger_budget_is_spent_and_kept() -> None:
    """At alpha 0.3 false alarms do occur, so the rows above could fail."""
    rolled_back, _ = ever_rolled_back((Place(50, 0.05),), CANARY_STEPS, RUNS, seed=12, alpha=0.3)
    assert 0.03 < rolled_back <= at_most(0.3, RUNS)


def test_three_times_the_errors_are_caught() -> None:
    caught, exposed = ever_rolled_back((Place(17, 0.01, odds_ratio=3.06),) * 3, steps(5, 25, 50, seconds=120), 200, seed=13)
    assert caught >= 0.99
    assert exposed <= 1000


def test_three_times_the_errors_in_one_region_only_are_caught() -> None:
    places = (Place(17, 0.02), Place(17, 0.02, odds_ratio=3.2), Place(17, 0.02))
    caught, _ = ever_rolled_back(places, steps(5, 25, 50, seconds=120), 200, seed=14)
    assert caught >= 0.99


def test_a_canary_that_errs_where_stable_never_does_is_caught_within_few_of_its_requests() -> None:
    """4 % errors at a share of 5 % of 50 requests a second over three regions."""
    rng = np.random.default_rng(15)
    exposed = []
    for _ in range(300):
        regions = [_erring_canary(rng, 50 / 3, 0.05, 0.04, 300) for _ in REGIONS]
        found = harm(regions, 1.0, 1 / ALPHA)
        assert found.second is not None
        exposed.append(sum(int(region.canary.attempts[region.second <= found.second].sum()) for region in regions))
    assert np.median(exposed) <= 130
    assert np.quantile(exposed, 0.95) <= 300


def test_a_region_whose_canary_resets_a_fifth_of_its_connections_is_caught() -> None:
    rng = np.random.default_rng(16)
    for _ in range(100):
        regions = [_erring_canary(rng, 50 / 3, 0.05, errors, 120) for errors in (0.0, 0.2, 0.0)]
        found = harm(regions, 1.0, 1 / ALPHA)
        assert found.second is not None
        assert np.argmax(found.regions) == 1


def test_trusting_the_intended_share_breaks_the_guarantee_and_measuring_it_keeps_it() -> None:
    rng = np.random.default_rng(17)
    runs = [simulate(rng, Place(17, 0.02), np.full(1200, 0.13)) for _ in range(300)]
    assumed = np.mean([harm([with_assumed_share(strata, 0.10)], 1.0, 1 / ALPHA).second is not None for strata in runs])
    measured = np.mean([harm([strata], 1.0, 1 / ALPHA).second is not None for strata in runs])
    assert assumed > 4 * ALPHA
    assert measured <= ALPHA


def test_summing_regions_breaks_the_guarantee_and_strata_keep_it() -> None:
    """The canary is identical, but has more of the traffic where errors are common."""
    rng = np.random.default_rng(18)
    shares = np.full(300, 0.2)
    runs = [
        [simulate(rng, Place(20, 0.01, share_factor=0.2), shares), simulate(rng, Place(20, 0.1, share_factor=2), shares)]
        for _ in range(200)
    ]
    summed = np.mean([harm([_summed(*regions)], 1.0, 1 / ALPHA).second is not None for regions in runs])
    stratified = np.mean([harm(regions, 1.0, 1 / ALPHA).second is not None for regions in runs])
    assert summed > 0.9
    assert stratified <= ALPHA


def test_the_evidence_agrees_with_savvis_multinomial_test() -> None:
    """With a Beta prior on the canary's share of the bad attempts, laid on a fine grid of odds ratios."""
    share, concentration = 0.25, 20.0
    grid = (np.arange(20_000) + 0.5) / 20_000
    a, b = concentration * share, concentration * (1 - share)
    prior = np.exp((a - 1) * np.log(grid) + (b - 1) * np.log1p(-grid) - betaln(a, b)) / len(grid)
    odds = grid / (1 - grid) * (1 - share) / share
    rng = np.random.default_rng(19)
    bad = rng.poisson(1.5, 60)
    of_canary = rng.binomial(bad, 0.45)
    strata = strata_of(np.arange(60), np.full(60, 250), of_canary, np.full(60, 750), bad - of_canary)
    ours = log_wealth(strata, 1.0, Mixture(tuple(odds), tuple(prior / prior.sum())))
    oracle = Multinomial(ALPHA, np.array([share, 1 - share]), k=concentration)
    theirs = [_updated(oracle, row) for row in np.stack([of_canary, bad - of_canary], axis=1)]
    np.testing.assert_allclose(ours, np.log(theirs), rtol=1e-5, atol=1e-6)
    assert ours[-1] > np.log(20)


def test_half_of_the_stake_is_on_all_regions_together_and_half_is_spread_over_them() -> None:
    regions = [steady(3, 5, 95, canary_bad=1), steady(3, 5, 95), steady(3, 5, 95, stable_bad=1)]
    found = harm(regions, 1.0, limit=1e9)
    pooled = np.exp(sum(harm_bets(region, 1.0).logs[-1] for region in regions)) @ np.array(MIXTURE.weights)
    assert found.second is None
    assert found.value == pytest.approx(POOLED * pooled + (1 - POOLED) * sum(found.regions) / 3)
    assert found.regions[0] > found.regions[1] > found.regions[2]
    assert found.regions[1] == pytest.approx(1.0)


def test_what_all_regions_show_together_is_found_with_hardly_more_requests_than_in_one() -> None:
    """The same 50 requests a second and three times the errors, in one region and spread over three."""
    shares = steps(5, 25, 50, seconds=120)
    _, in_one = ever_rolled_back((Place(51, 0.01, odds_ratio=3.06),), shares, 300, seed=21)
    _, in_three = ever_rolled_back((Place(17, 0.01, odds_ratio=3.06),) * 3, shares, 300, seed=21)
    assert in_three <= 1.5 * in_one


@pytest.mark.parametrize("odds_ratio", [1.0, 1.3])
def test_a_second_with_attempts_of_one_revision_only_says_nothing(odds_ratio: float) -> None:
    assert harm([steady(500, 0, 20, stable_bad=5)], odds_ratio, 20).value == pytest.approx(1)
    assert harm([steady(500, 20, 0, canary_bad=20)], odds_ratio, 20).value == pytest.approx(1)


def test_the_process_stops_at_its_limit_and_stays_there() -> None:
    """What followed would have talked the evidence down again."""
    burst, quiet = steady(5, 1, 19, canary_bad=1), steady(3000, 10, 10, canary_bad=0, stable_bad=1)
    parts = ([burst.canary.attempts, burst.canary.bad, burst.stable.attempts, burst.stable.bad],)
    parts += ([quiet.canary.attempts, quiet.canary.bad, quiet.stable.attempts, quiet.stable.bad],)
    both = strata_of(START + np.arange(3005), *(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    alone, followed = harm([burst], 1.0, 20), harm([both], 1.0, 20)
    assert alone == followed
    assert alone.second is not None
    assert alone.second < START + 5


def test_long_and_extreme_runs_neither_overflow_nor_lose_their_meaning() -> None:
    huge = harm([steady(2000, 1000, 100_000, canary_bad=1000)], 1.0, 20)
    assert np.isfinite(huge.value)
    assert huge.second == START
    assert harm([steady(100_000, 100, 900, canary_bad=1, stable_bad=90)], 1.0, 20).value == 0.0


def _evidence_of_each(
    canary: int, canary_bad: np.ndarray, stable: int, stable_bad: np.ndarray, odds_ratio: float, multiple: float
) -> np.ndarray:
    """The factor that each possible second contributes."""
    one = np.ones(len(canary_bad), dtype=np.int64)
    seconds = strata_of(np.arange(len(one)), one * canary, canary_bad, one * stable, stable_bad)
    return np.exp(np.diff(log_wealth(seconds, odds_ratio, Mixture((multiple,), (1.0,))), prepend=0.0))


def _erring_canary(rng: np.random.Generator, rate: float, share: float, errors: float, seconds: int) -> Strata:
    requests = rng.poisson(rate, seconds)
    canary = rng.binomial(requests, share)
    return strata_of(START + np.arange(seconds), canary, rng.binomial(canary, errors), requests - canary, np.zeros_like(canary))


def _summed(first: Strata, second: Strata) -> Strata:
    canary, stable = (
        (one.attempts + other.attempts, one.bad + other.bad)
        for one, other in ((first.canary, second.canary), (first.stable, second.stable))
    )
    return strata_of(first.second, *canary, *stable)


def log_wealth(strata: Strata, odds_ratio: float, mixture: Mixture = MIXTURE) -> np.ndarray:
    """The logarithm of one region's e-value after each stratum."""
    return np.logaddexp.reduce(harm_bets(strata, odds_ratio, mixture=mixture).logs + np.log(mixture.weights), axis=1)


def _updated(oracle: Multinomial, row: np.ndarray) -> float:
    oracle.update(row)
    return float(oracle.odds)
