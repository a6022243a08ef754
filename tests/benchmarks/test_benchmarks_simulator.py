"""Simulated releases are what their rows say, and count as the shipped fold counts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from benchmarks.judging.chain import lines_of
from benchmarks.judging.convoy import Counted
from benchmarks.judging.counting import FIELDS
from benchmarks.judging.recorded import compare
from benchmarks.judging.scenarios import ALL, CALM, LIMIT_MS, STEPS, Kind, Place, Retries, Scenario
from benchmarks.judging.simulator import CALLERS, MILLION, SECONDS, Traffic, shares, simulate
from traffic.attempts.formats import ACCESS_LOG_FORMAT, ROUTER_LOG_FORMAT

SEED = 7
BY_NAME = {scenario.name: scenario for scenario in ALL}
STEADY = BY_NAME["steady"]


def one(scenario: Scenario, seed: int = SEED) -> Traffic:
    return simulate(scenario, seed)[0]


def test_a_seed_gives_one_release_and_another_row_another_one() -> None:
    first, again, other = one(STEADY), one(STEADY), one(replace(STEADY, name="another"))
    assert np.array_equal(first.end_ms, again.end_ms)
    assert np.array_equal(first.score, again.score)
    assert len(first) != len(other)


def test_an_identical_version_answers_as_stable_does() -> None:
    """Over twenty releases, within four standard errors."""
    traffic = [one(STEADY, seed) for seed in range(20)]
    for flags, rate in (("bad", 0.01), ("took_ms", 0.01)):
        for arm in (True, False):
            answered = np.concatenate(
                [(getattr(found, flags) > (LIMIT_MS if flags == "took_ms" else 0))[found.canary == arm] for found in traffic]
            )
            assert answered.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / len(answered)))


@pytest.mark.parametrize(
    ("name", "field", "canary", "stable"),
    [
        ("errors x3", "bad", 0.03, 0.01),
        ("slower tail, 1 % to 3 % above the limit", "slow", 0.03, 0.01),
        ("rare errors from zero, 0.3 %", "bad", 0.003, 0.0),
    ],
)
def test_a_harmful_version_differs_by_what_its_row_says(name: str, field: str, canary: float, stable: float) -> None:
    total = np.sum([Counted.of(simulate(BY_NAME[name], seed)).tables[0] for seed in range(10)], axis=(0, 1))
    for arm, rate in ((1, canary), (0, stable)):
        tried, happened = total[arm, FIELDS.index("attempts")], total[arm, FIELDS.index(field)]
        assert happened / tried == pytest.approx(rate, abs=4 * np.sqrt(rate / tried) + 1e-12)


def test_the_prediction_shift_moves_the_mean_score() -> None:
    traffic = one(BY_NAME["prediction shift, mean 0.29 to 0.35"])
    means = [traffic.score[(traffic.canary == arm) & (traffic.score >= 0)].mean() / MILLION for arm in (False, True)]
    assert means == pytest.approx([0.286, 0.346], abs=0.005)


def test_each_second_is_dealt_out_with_its_steps_true_share() -> None:
    place = Place(share_factor=1.3)
    assert shares(STEADY, place)[[0, 720, 3599]] == pytest.approx([0.013, 0.065, 0.65])
    traffic = [one(STEADY, seed) for seed in range(10)]
    step = np.concatenate([found.start_ms for found in traffic]) // (SECONDS * 1000 // len(STEPS))
    canary = np.concatenate([found.canary for found in traffic])
    for number, percent in enumerate(STEPS):
        assert canary[step == number].mean() == pytest.approx(percent / 100, rel=0.06)


def test_retries_are_three_attempts_in_the_mean_by_one_caller_at_one_revision() -> None:
    traffic = one(BY_NAME["retry bursts"])
    bad = np.flatnonzero(traffic.bad)
    alone = one(replace(BY_NAME["retry bursts"], retries=Retries()))
    assert len(bad) / alone.bad.sum() == pytest.approx(3, abs=0.5)
    table = Counted.of((traffic,)).tables[0].sum(axis=(0, 1))
    assert table[FIELDS.index("bad_once")] == pytest.approx(alone.bad.sum(), rel=0.1)


def test_the_weather_meets_both_revisions_alike_unless_they_are_apart() -> None:
    together, apart = (
        Scenario(
            "weather",
            Kind.IDENTICAL,
            (Place(per_minute=10_000.0, errors=0.05),),
            (50,),
            weather=replace(CALM, correlation=0.8, apart=apart),
        )
        for apart in (False, True)
    )
    for scenario, expected in ((together, True), (apart, False)):
        traffic = one(scenario)
        minute = traffic.end_ms // 60_000
        errors = np.stack([np.bincount(minute[traffic.bad & (traffic.canary == arm)], minlength=60)[:60] for arm in (False, True)])
        assert bool(np.corrcoef(errors)[0, 1] > 0.9) is expected


@pytest.mark.parametrize("name", ["20 requests a minute", "retry bursts", "errors x2", "three regions, unlike base rates and shares"])
def test_the_shipped_fold_and_judge_come_to_the_same_as_the_columns_that_judge_thousands(name: str) -> None:
    scenario = BY_NAME[name]
    found = compare(scenario, SEED, 3600 if "20" in name else 180)
    assert found.counts > 100
    assert found.differing == 0
    assert not found.verdict_differs


def test_a_harmful_release_is_rolled_back_at_the_same_second_by_the_whole_chain() -> None:
    slow = Scenario("quick harm", Kind.HARMFUL, (Place(per_minute=200.0, canary=BY_NAME["errors x3"].places[0].canary, errors=0.1),), (50,))
    assert not compare(slow, SEED, 240).verdict_differs


def test_lines_have_exactly_the_fields_that_envoy_is_told_to_write_in_their_order() -> None:
    attempts, requests = lines_of(one(BY_NAME["errors x2"]), seconds=60)
    for log, form in ((attempts, ROUTER_LOG_FORMAT), (requests, ACCESS_LOG_FORMAT)):
        for line in log.splitlines():
            assert list(orjson.loads(line)) == sorted(form)


def test_a_burst_is_one_attempt_of_its_caller_over_both_revisions() -> None:
    size = 4
    column = np.zeros(size, dtype=np.int64)
    traffic = Traffic(
        place=Place(),
        start_ms=np.array([100, 200, 300, 1100]),
        took_ms=column + 5,
        caller=np.array([1, 1, CALLERS - 1, 1]),
        canary=np.array([False, True, True, True]),
        bad=np.ones(size, dtype=np.bool_),
        broken=np.zeros(size, dtype=np.bool_),
        score=column - 1,
        shadow_ms=column - 1,
        disagreed=np.zeros(size, dtype=np.bool_),
    )
    counts = Counted.of((traffic,)).tables[0][:, :, FIELDS.index("bad_once")]
    assert counts[0].sum() == 2
    assert counts[0, 1] >= 1
    assert counts[1].tolist() == [0, 1]
