"""Seconds joined into strata: nothing is lost, nothing is bet on twice, and no stratum holds two weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_canary import START, Place, at_most, harm, simulate, steady, steps, strata_of

from monitoring.closing import ATTEMPTS, SECONDS, closed
from monitoring.harm import MIXTURE, harm_bets
from monitoring.strata import Strata


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=200), st.lists(st.integers(0, 200), max_size=3))
def test_what_is_closed_is_the_sum_of_its_seconds_and_stays_so_whatever_comes_later(tries: list[tuple[int, int]], cuts: list[int]) -> None:
    canary, stable = (np.array(column) for column in zip(*tries, strict=True))
    whole = strata_of(START + np.arange(len(tries)), canary, canary // 3, stable, stable // 4)
    at = [START + cut for cut in cuts]
    found, before = closed(whole, at), closed(_until(whole, len(tries) // 2), at, START + len(tries) // 2)
    assert [column[: len(before.second)].tolist() for column in _columns(found)] == [column.tolist() for column in _columns(before)]
    last = int(found.second[-1]) - START + 1 if len(found.second) else 0
    assert found.canary.attempts.sum() == canary[:last].sum()
    assert found.stable.bad.sum() == (stable // 4)[:last].sum()


def test_a_stratum_closes_once_both_were_tried_often_enough_or_a_minute_is_over() -> None:
    busy, rare, never = steady(10, 5, 95), steady(300, 0, 3), steady(30, 0, 3)
    assert closed(busy).second.tolist() == busy.second.tolist()
    assert closed(rare).second.tolist() == [START + SECONDS * number - 1 for number in range(1, 6)]
    assert closed(never).second.tolist() == []
    assert closed(never, until=START + SECONDS).second.tolist() == [START + SECONDS - 1]
    assert closed(steady(20, 1, 16)).second.tolist() == [START + ATTEMPTS * number - 1 for number in range(1, 5)]


def test_no_stratum_holds_seconds_of_two_weights() -> None:
    found = closed(steady(40, 1, 16), cuts=[START + 7, START + 18])
    assert found.second.tolist() == [START + second for second in (4, 6, 11, 16, 17, 22, 27, 32, 37)]


def test_edges_are_joined_each_by_itself() -> None:
    one, other = steady(10, 5, 95), steady(10, 1, 16)
    both = Strata(
        np.concatenate([one.second, other.second]),
        *(_joined(getattr(one, arm), getattr(other, arm)) for arm in ("canary", "stable")),
        np.repeat([0, 1], 10),
    )
    found = closed(both)
    assert sorted(found.second[found.edge == 1].tolist()) == [START + 4, START + 9]
    assert len(found.second) == 12


@pytest.mark.parametrize("weight_steps", [steps(1, 5, 25, 50, seconds=300)])
def test_joining_changes_no_false_alarm_where_weights_and_rates_change(weight_steps: np.ndarray) -> None:
    rng = np.random.default_rng(61)
    places = (Place(2, 0.05, wave=0.9), Place(9, 0.2, wave=-0.7, share_factor=0.5))
    alarms = sum(harm([simulate(rng, place, weight_steps) for place in places], 1.0, 20).second is not None for _ in range(400))
    assert alarms / 400 <= at_most(0.05, 400)


def test_where_requests_are_rare_harm_is_seen_sooner_than_in_single_seconds() -> None:
    """Two requests every three seconds: seldom did both revisions have one in the same second."""
    rng = np.random.default_rng(62)
    runs = [simulate(rng, Place(0.66, 0.05, odds_ratio=8), np.full(7200, 0.3)) for _ in range(60)]
    joined = [harm([run], 1.0, 20).second or START + 7200 for run in runs]
    assert np.median(joined) - START <= 0.75 * np.median([_first_alarm(run) for run in runs])


def _first_alarm(run: Strata) -> int:
    wealth = np.logaddexp.reduce(harm_bets(run, 1.0).logs + np.log(MIXTURE.weights), axis=1)
    return int(run.second[np.argmax(wealth >= np.log(20))]) - START if wealth.max() >= np.log(20) else 7200


def _until(strata: Strata, seconds: int) -> Strata:
    seen = strata.second < START + seconds
    columns = (strata.second, strata.canary.attempts, strata.canary.bad, strata.stable.attempts, strata.stable.bad)
    return strata_of(*(column[seen] for column in columns))


def _columns(strata: Strata) -> tuple[np.ndarray, ...]:
    return strata.second, strata.canary.attempts, strata.canary.bad, strata.stable.attempts, strata.stable.bad


def _joined(one: object, other: object) -> object:
    names = type(one).__slots__
    return type(one)(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in names))
