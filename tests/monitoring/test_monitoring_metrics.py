"""Every metric under one budget: what each convicts, what it never does, and how they are combined."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_canary import ERRORS_ALONE, REGIONS, START, Place, at_most, simulate, steady, steps, strata_of

from fleet.declared import Rollback, Stakes
from fleet.evidence import Metric, Outcome
from monitoring.conviction import Evidence, process, weigh
from monitoring.criteria import Criteria
from monitoring.excess import ODDS, excess_bets
from monitoring.replay import decide
from monitoring.shift import FRACTIONS, shift_bets, shift_of
from monitoring.strata import MILLION, Arm, PairStrata, Strata

ALPHA = 0.05
ALL = Criteria(Rollback(margin=0.01), dict.fromkeys(REGIONS, 0.03), shift=0.02, disagreement=0.05)


def scored(rng: np.random.Generator, seconds: int, share: float, means: tuple[float, float], rate: float = 17.0) -> Strata:
    """Answers of both revisions with scores of the given means (canary, stable) and a spread of about 0.2; 2 % bad, 5 % slow."""
    requests = rng.poisson(rate, seconds)
    canary = rng.binomial(requests, share)
    arms = [_arm(rng, attempts, mean) for attempts, mean in zip((canary, requests - canary), means, strict=True)]
    return Strata(START + np.arange(seconds), arms[0], arms[1], np.zeros(seconds, dtype=np.int64))


def evidence(strata: list[Strata], pairs: list[PairStrata] | None = None) -> Evidence:
    regions = REGIONS[: len(strata)]
    none = PairStrata(*(np.zeros(0, dtype=np.int64),) * 3)
    return Evidence(dict(zip(regions, strata, strict=True)), dict(zip(regions, pairs or [none] * len(strata), strict=True)))


def test_the_stakes_of_what_is_not_judged_go_to_what_is() -> None:
    assert ALL.stakes() == pytest.approx(
        {Metric.ERRORS: 4 / 9, Metric.SLOW: 2 / 9, Metric.OBJECTIVE: 1 / 9, Metric.PREDICTIONS: 1 / 9, Metric.PAIRS: 1 / 9}
    )
    assert Criteria(Rollback(margin=0.01)).stakes() == pytest.approx({Metric.ERRORS: 2 / 3, Metric.SLOW: 1 / 3})
    assert Criteria(Rollback(margin=0.01, stakes=ERRORS_ALONE), shift=0.1).stakes() == {Metric.ERRORS: 1.0}


def test_stakes_with_which_nothing_could_convict_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing could convict"):
        Stakes(errors=0, slow=0, objective=0)


@pytest.mark.long
def test_identical_versions_are_rarely_rolled_back_with_all_metrics_in_all_regions() -> None:
    rng = np.random.default_rng(31)
    convicted = 0
    for _ in range(400):
        strata = [scored(rng, 400, 0.25, (0.4, 0.4)) for _ in REGIONS]
        pairs = [PairStrata(START + np.arange(400), np.full(400, 4), rng.binomial(4, 0.05, 400)) for _ in REGIONS]
        convicted += weigh(ALL, evidence(strata, pairs)).second is not None
    assert convicted / 400 <= ALPHA


def test_a_larger_budget_is_spent_so_the_row_above_could_fail() -> None:
    rng = np.random.default_rng(32)
    loose = Criteria(Rollback(margin=0.01, alpha=0.4), shift=0.0)
    convicted = [weigh(loose, evidence([scored(rng, 400, 0.25, (0.4, 0.4))])).second is not None for _ in range(300)]
    assert 0.05 < np.mean(convicted) <= at_most(0.4, 300)


def test_slow_answers_convict_as_bad_ones_do() -> None:
    """The canary answers 10 % slower than the limit, stable 2 %; nobody errs."""
    rng = np.random.default_rng(33)
    strata = []
    for _ in REGIONS:
        requests = rng.poisson(17, 600)
        canary = rng.binomial(requests, 0.2)
        none = np.zeros_like(canary)
        arms = [Arm.of(attempts, none, rng.binomial(attempts, rate)) for attempts, rate in ((canary, 0.1), (requests - canary, 0.02))]
        strata.append(Strata(START + np.arange(600), *arms, np.zeros(600, dtype=np.int64)))
    found = weigh(ALL, evidence(strata))
    assert found.second is not None
    assert max(found.metrics, key=lambda each: each[1])[0] is Metric.SLOW


def test_an_objective_that_both_break_convicts_though_the_canary_is_no_worse() -> None:
    rng = np.random.default_rng(34)
    strata = [simulate(rng, Place(17, 0.12), np.full(600, 0.3)) for _ in REGIONS]
    found = weigh(ALL, evidence(strata))
    assert found.second is not None
    assert dict(found.metrics)[Metric.OBJECTIVE] > 20 > dict(found.metrics)[Metric.ERRORS]
    assert weigh(Criteria(ALL.rollback), evidence(strata)).second is None


def test_a_failure_behind_two_regions_at_once_does_not_count_twice_against_an_objective() -> None:
    """The regions fail in the same seconds, at the rate allowed in the mean; multiplied they would convict."""
    rng = np.random.default_rng(35)
    convicted = 0
    only = Criteria(Rollback(margin=0.01, stakes=Stakes(errors=0, slow=0, objective=1)), dict.fromkeys(REGIONS, 0.1))
    for _ in range(400):
        outage = rng.random(300) < 0.1
        same = strata_of(
            START + np.arange(300), np.ones(300, dtype=int), outage.astype(int), np.zeros(300, dtype=int), np.zeros(300, dtype=int)
        )
        convicted += weigh(only, evidence([same] * 3)).second is not None
    assert convicted / 400 <= ALPHA


def test_predictions_that_shift_by_more_than_allowed_convict_and_by_less_they_do_not() -> None:
    rng = np.random.default_rng(36)
    only = Criteria(Rollback(margin=0.01, stakes=Stakes(errors=0, slow=1e-9, objective=0, predictions=1)), shift=0.05)
    shifted = [scored(rng, 900, 0.25, (0.55, 0.4)) for _ in REGIONS]
    allowed = [scored(rng, 900, 0.25, (0.44, 0.4)) for _ in REGIONS]
    downwards = [scored(rng, 900, 0.25, (0.25, 0.4)) for _ in REGIONS]
    assert weigh(only, evidence(shifted)).second is not None
    assert weigh(only, evidence(downwards)).second is not None
    assert weigh(only, evidence(allowed)).second is None


def test_the_mean_of_each_prediction_bet_is_at_most_one_while_the_means_differ_by_no_more_than_allowed() -> None:
    """Exactly, over scores of 0 and 1, three answers by the canary and two by stable, in both directions."""
    allowed, canary_rate, stable_rate = 0.2, 0.6, 0.4
    expected = np.zeros(2 * len(FRACTIONS))
    for ones in range(4):
        for stable_ones in range(3):
            weight = _binomial(3, ones, canary_rate) * _binomial(2, stable_ones, stable_rate)
            arms = [_scores(3, ones), _scores(2, stable_ones)]
            expected += weight * np.exp(shift_bets(Strata(np.array([START]), *arms, np.zeros(1, dtype=np.int64)), allowed).logs[-1])
    assert (expected <= 1 + 1e-12).all()
    assert expected[: len(FRACTIONS)] == pytest.approx(1)


def test_the_confidence_sequence_of_the_shift_holds_the_truth_and_closes_in_on_it() -> None:
    rng = np.random.default_rng(37)
    held, widths = 0, []
    for _ in range(200):
        strata = [scored(rng, 600, 0.3, (0.5, 0.4))]
        found = shift_of(strata, ALPHA)
        held += found.low <= 0.1 <= found.high
        widths.append(found.high - found.low)
    assert held / 200 >= 1 - ALPHA
    assert np.median(widths) < 0.1


def test_without_scores_nothing_is_known_of_the_shift() -> None:
    assert shift_of([steady(10, 1, 1)], ALPHA).low == -1.0
    assert shift_of([steady(10, 1, 1)], ALPHA).high == 1.0


def test_pairs_that_disagree_more_than_allowed_convict() -> None:
    pairs = [PairStrata(START + np.arange(200), np.full(200, 5), np.tile([0, 1], 100)) for _ in REGIONS]
    strata = [steady(200, 1, 16) for _ in REGIONS]
    found = weigh(ALL, evidence(strata, pairs))
    assert found.second is not None
    assert max(found.metrics, key=lambda each: each[1])[0] is Metric.PAIRS


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.3, 1.0])
def test_the_mean_of_each_bet_on_a_limit_is_at_most_one_at_the_limit(limit: float) -> None:
    expected = np.zeros(len(ODDS))
    for happened in range(5):
        bets = excess_bets(np.array([START]), np.array([4]), np.array([happened]), limit)
        expected += _binomial(4, happened, limit) * np.exp(bets.logs[-1])
    assert (expected <= 1 + 1e-9).all()


def test_a_whole_canary_replayed_in_one_pass_ends_as_the_judge_who_looks_each_second() -> None:
    rng = np.random.default_rng(38)
    harmful = [simulate(rng, Place(17, 0.01, odds_ratio=4), steps(5, 25, 50, seconds=120)) for _ in REGIONS]
    clean = [steady(400, 1, 16) for _ in REGIONS]
    silent = [steady(400, 0, 16) for _ in REGIONS]
    decided = decide(ALL, evidence(harmful), START + 240)
    assert decided.outcome is Outcome.ROLL_BACK
    assert decided.second == weigh(ALL, evidence(harmful)).second
    assert decide(ALL, evidence(clean), START).second == START + 335
    assert decide(ALL, evidence(clean), START + 350).second == START + 350
    assert decide(ALL, evidence(silent), START).outcome is Outcome.NOT_ENOUGH_DATA
    pooled = Criteria(ALL.rollback.model_copy(update={"scope": "traffic"}))
    assert decide(pooled, evidence(clean), START).second == START + 111


def test_the_process_of_a_release_is_the_staked_average_of_its_metrics() -> None:
    found = process(ALL, evidence([steady(50, 1, 16, canary_bad=1) for _ in REGIONS]))
    average = sum(stake * np.exp(found.joined[metric].total[-1]) for metric, stake in found.stakes.items())
    assert np.exp(found.total[-1]) == pytest.approx(average)


def _arm(rng: np.random.Generator, attempts: np.ndarray, mean: float) -> Arm:
    sums = np.array([int(rng.beta(6 * mean, 6 * (1 - mean), count).sum() * MILLION) for count in attempts])
    bad, slow = rng.binomial(attempts, 0.02), rng.binomial(attempts, 0.05)
    return Arm(attempts, bad, bad, slow, slow, attempts, sums, np.zeros_like(attempts))


def _scores(answers: int, ones: int) -> Arm:
    counts, none = np.array([answers]), np.zeros(1, dtype=np.int64)
    return Arm(counts, none, none, none, none, counts, np.array([ones * MILLION]), none)


def _binomial(tried: int, happened: int, rate: float) -> float:
    from scipy.stats import binom

    return float(binom.pmf(happened, tried, rate))
