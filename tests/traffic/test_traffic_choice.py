"""The choice of regions as a pure function, over samples of hours: who falls, who rises, and who stays where he is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic.choice import FEWEST_ANSWERS, LONGEST_HOLD, NOTHING_KNOWN, Measured, Policy, Standings, choose
from traffic.placement import WHOLE, Placement
from traffic.rules import Choice, Price

REGIONS = ("eu", "us", "asia")
CHOICE = Choice(latency=2, load=1, price=0, hysteresis=0.05, seconds=3, return_seconds=10, floor_percent=2)
FLOOR = 200
POLICY = Policy(CHOICE, REGIONS, "eu", latency_ms=500)
NOWHERE_PREFERRED = replace(POLICY, own=None)
BEGAN = 1000
Saying = Callable[[int, Mapping[str, int]], Iterable[Measured]]


def seen(answers: int = 50, error_ms: float = 2.0, under_way: float = 0.0, **mean_ms: float) -> list[Measured]:
    return [Measured(region, answers, mean, error_ms, under_way) for region, mean in mean_ms.items()]


def parts(standings: Standings, policy: Policy = POLICY) -> dict[str, int]:
    return standings.placement(policy).parts(policy.regions, policy.own)


def lived(says: Saying, seconds: int, policy: Policy = POLICY, before: Standings = NOTHING_KNOWN, since: int = BEGAN) -> list[Standings]:
    """Return the standings after each of some seconds, given what is measured in each while the regions have their parts."""
    found = []
    for second in range(seconds):
        before = choose(before, says(second, parts(before, policy)), policy, since + second)
        found.append(before)
    return found


def changes(standings: Iterable[Standings], policy: Policy = POLICY) -> int:
    deals = [parts(each, policy) for each in standings]
    return sum(now != before for before, now in pairwise(deals))


def slowed(region: str, ms: float = 200) -> Saying:
    return lambda _second, _parts: seen(**{each: 20.0 + ms * (each == region) for each in REGIONS})


def test_an_edge_keeps_to_its_own_region_and_every_other_one_gets_its_floor() -> None:
    assert parts(NOTHING_KNOWN) == {"eu": WHOLE - 2 * FLOOR, "us": FLOOR, "asia": FLOOR}
    assert parts(NOTHING_KNOWN, NOWHERE_PREFERRED) == {"eu": 3333, "us": 3333, "asia": 3334}


@pytest.mark.parametrize("policy", [POLICY, NOWHERE_PREFERRED], ids=["at home", "nowhere"])
@pytest.mark.parametrize("already", [0, 40])
def test_a_region_slowed_by_200_ms_is_at_its_floor_within_ten_seconds_whatever_window_its_mean_is_of(policy: Policy, already: int) -> None:
    calm = lived(lambda *_: seen(eu=20, us=20 + already, asia=20 + already), 60, policy)[-1]
    reached = lived(
        lambda second, _: seen(eu=20 + 200 * min(1, second / 3), us=20 + already, asia=20 + already), 10, policy, calm, BEGAN + 60
    )
    assert parts(reached[-1], policy)["eu"] == FLOOR
    assert parts(reached[-1], policy)["us"] == (WHOLE - FLOOR) // 2


def test_it_stays_left_as_long_as_it_is_slow_and_nothing_else_changes() -> None:
    assert changes(lived(slowed("eu"), 3600)) == 1


def test_a_region_that_is_as_good_again_gets_its_requests_back_slowly_and_only_after_a_while() -> None:
    left = lived(slowed("eu"), 30)[-1]
    back = [parts(each)["eu"] for each in lived(slowed("nobody"), 120, before=left, since=BEGAN + 30)]
    assert back[:9] == [FLOOR] * 9
    assert back == sorted(back)
    assert max(after - before for before, after in pairwise(back)) <= WHOLE // 10
    assert 20 <= back.index(WHOLE - 2 * FLOOR) <= 60


@pytest.mark.parametrize("well", range(10, 90, 5))
def test_a_region_that_slows_down_again_while_it_comes_back_or_after_it_is_left_again_as_quickly(well: int) -> None:
    left = lived(slowed("eu"), 30)[-1]
    back = lived(slowed("nobody"), well, before=left, since=BEGAN + 30)[-1]
    again = lived(lambda second, _: seen(eu=20 + 200 * min(1, second / 3), us=20, asia=20), 11, before=back, since=BEGAN + 30 + well)
    assert parts(again[9])["eu"] == FLOOR


def test_one_that_is_still_a_little_worse_does_not_come_back() -> None:
    left = lived(slowed("eu"), 30)[-1]
    assert changes(lived(slowed("eu", ms=20), 3600, before=left, since=BEGAN + 30)) == 0
    assert changes(lived(slowed("eu", ms=20), 3600)) == 0


def test_what_is_worse_for_a_moment_only_is_not_left() -> None:
    assert changes(lived(lambda second, _: seen(eu=20 + 300 * (second % 4 < 3), us=20, asia=20), 600)) == 0


def test_a_difference_that_chance_explains_moves_nothing() -> None:
    assert changes(lived(lambda *_: seen(eu=120, us=20, asia=20, error_ms=25), 600)) == 0


@pytest.mark.parametrize("gap", [20, 37.5, 40, 60])
@pytest.mark.parametrize("seed", range(3))
def test_noise_around_the_threshold_never_flaps(gap: float, seed: int) -> None:
    dice = random.Random(seed)
    noisy = lived(lambda *_: seen(eu=20 + gap + dice.gauss(0, 15), us=20 + dice.gauss(0, 15), asia=20 + dice.gauss(0, 15)), 3600)
    fallen = [each.of["eu"].falls for each in noisy]
    assert sum(now > before for before, now in pairwise(fallen)) <= 8


@pytest.mark.parametrize("regions", [REGIONS, REGIONS[:2]])
@pytest.mark.parametrize("own", ["eu", None])
def test_regions_that_cannot_bear_everything_alone_come_to_share_the_requests(regions: tuple[str, ...], own: str | None) -> None:
    policy = replace(POLICY, regions=regions, own=own)

    def strained(_second: int, dealt: Mapping[str, int]) -> list[Measured]:
        return seen(**{region: 20 + 400 * max(0.0, part / WHOLE - 0.6) for region, part in dealt.items()})

    shared = lived(strained, 1800, policy)
    assert changes(shared[-600:], policy) <= 4
    assert max(parts(shared[-1], policy).values()) <= 0.8 * WHOLE
    assert max(each.of[region].falls for each in shared for region in regions) <= 8


def test_whatever_is_measured_a_region_falls_only_a_few_times_an_hour() -> None:
    dice = random.Random(7)
    wild = lived(lambda *_: seen(**{region: dice.choice((20.0, 400.0)) if dice.random() < 0.05 else 20.0 for region in REGIONS}), 3600)
    held = lived(lambda second, _: seen(eu=20 + 300 * (second // 40 % 2), us=20, asia=20), 3600)
    for hour in (wild, held):
        falls = [each.of["eu"].falls for each in hour]
        assert sum(now > before for before, now in pairwise(falls)) <= 3600 / LONGEST_HOLD + 6


def test_without_answers_nothing_changes() -> None:
    for before in (NOTHING_KNOWN, lived(slowed("eu"), 30)[-1]):
        silent = lived(lambda *_: (), 600, before=before, since=BEGAN + 30)
        few = lived(lambda *_: seen(eu=900, us=20, asia=20, answers=FEWEST_ANSWERS - 1), 600, before=before, since=BEGAN + 30)
        alone = lived(lambda *_: seen(eu=900), 600, before=NOTHING_KNOWN)
        assert {tuple(parts(each).items()) for each in (*silent, *few)} == {tuple(parts(before).items())}
        assert changes(alone) == 0


def test_a_region_that_nobody_has_measured_gets_nothing_of_what_another_one_loses() -> None:
    fallen = parts(lived(lambda *_: seen(eu=220, us=20), 10)[-1])
    assert fallen == {"eu": FLOOR, "us": WHOLE - 2 * FLOOR, "asia": FLOOR}


def test_the_whole_fleet_slower_is_no_reason_to_move() -> None:
    assert changes(lived(lambda second, _: seen(**dict.fromkeys(REGIONS, 20.0 + 400 * (second > 100))), 600)) == 0


def test_load_moves_only_as_much_as_evens_it_out() -> None:
    policy = replace(POLICY, choice=replace(CHOICE, latency=1, load=1), requests=50)

    def loaded(_second: int, dealt: Mapping[str, int]) -> list[Measured]:
        return [Measured(region, 50, 20, 1, under_way=45 * part / WHOLE) for region, part in dealt.items()]

    evened = lived(loaded, 600, policy)
    assert parts(evened[5], policy)["eu"] > 0.4 * WHOLE
    assert 0.33 * WHOLE <= parts(evened[-1], policy)["eu"] <= 0.7 * WHOLE
    assert changes(evened[-300:], policy) == 0


def test_a_dear_region_is_left_for_a_cheap_one_if_price_weighs() -> None:
    prices = (Price("eu", 1000), Price("us", 400), Price("asia", 950))
    policy = replace(POLICY, choice=replace(CHOICE, price=1, prices=prices))
    assert parts(lived(slowed("nobody"), 10, policy)[-1], policy) == {"eu": FLOOR, "us": WHOLE - 2 * FLOOR, "asia": FLOOR}
    assert changes(lived(slowed("nobody"), 60)) == 0


def test_without_limits_load_weighs_nothing() -> None:
    assert changes(lived(lambda *_: [*seen(eu=20, under_way=900), *seen(us=20, asia=20)], 60)) == 0


def test_a_region_that_comes_or_goes_leaves_the_others_as_they_are() -> None:
    left = lived(slowed("eu"), 30)[-1]
    grown = choose(left, (), replace(POLICY, regions=(*REGIONS, "africa")), BEGAN + 31)
    assert grown.of["eu"].cap == FLOOR
    assert set(choose(left, (), replace(POLICY, regions=("eu", "us")), BEGAN + 31).of) == {"eu", "us"}


some_regions = st.lists(st.sampled_from([f"r{number}" for number in range(12)]), min_size=1, max_size=12, unique=True)


@given(regions=some_regions, floor=st.integers(1, 1000), data=st.data())
def test_the_parts_are_always_the_whole_and_nobody_is_below_the_floor(regions: list[str], floor: int, data: st.DataObject) -> None:
    caps = data.draw(st.dictionaries(st.sampled_from(regions), st.integers(0, WHOLE)))
    own = data.draw(st.sampled_from([None, "elsewhere", *regions]))
    found = Placement(floor, caps).parts(regions, own)
    assert set(found) == set(regions)
    assert sum(found.values()) == WHOLE
    assert min(found.values()) >= min(floor, WHOLE // len(regions))


@given(regions=some_regions, floor=st.integers(1, 500), data=st.data())
def test_a_region_keeps_to_its_cap_wherever_the_others_can_take_the_rest(regions: list[str], floor: int, data: st.DataObject) -> None:
    caps = data.draw(st.dictionaries(st.sampled_from(regions), st.integers(floor, WHOLE)))
    found = Placement(floor, caps).parts(regions, data.draw(st.sampled_from([None, *regions])))
    if sum(caps.get(region, WHOLE) for region in regions) >= WHOLE and floor * len(regions) <= WHOLE:
        assert all(found[region] <= caps.get(region, WHOLE) for region in regions)


means = st.one_of(st.floats(0, 5000), st.just(math.inf))
looks = st.lists(
    st.lists(st.builds(Measured, st.sampled_from(REGIONS), st.integers(0, 99), means, st.floats(0, 500), st.floats(0, 99)), max_size=3),
    max_size=60,
)


@given(looks=looks, own=st.sampled_from([None, *REGIONS]), requests=st.sampled_from([None, 64]))
def test_whatever_is_measured_every_region_keeps_its_floor_and_together_they_have_the_whole(
    looks: list[list[Measured]], own: str | None, requests: int | None
) -> None:
    policy = replace(POLICY, own=own, requests=requests)
    for each in lived(lambda second, _: looks[second], len(looks), policy):
        found = parts(each, policy)
        assert sum(found.values()) == WHOLE
        assert min(found.values()) >= FLOOR
