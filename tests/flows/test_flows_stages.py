"""The walk's stages: which regions have which share in which order, and that waves reach every region once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fleet.declared import Canary, Fleet, Step
from flows.effects import Course, Ending, effects_of
from flows.routing import Deal
from flows.stages import Stage, stages_of
from monitoring.planning import LADDER
from support.stack import REGIONS, toy_fleet

STEPS = (Step(weight=20, seconds=1), Step(weight=50, seconds=1))
WAVES = (("us-east-1",), ("europe-west4", "southeastasia"))


def in_each(stage: Stage, dealt: Deal) -> dict[str, int]:
    """Return what each region meets of the canary."""
    return {region: dict(dealt.elsewhere).get(region, dealt.weight) for region in (*stage.reached, *stage.regions, *stage.ahead)}


def test_without_waves_every_region_walks_each_step_at_once() -> None:
    assert stages_of(Canary(steps=STEPS)) == (Stage(0, STEPS[0], last=False), Stage(20, STEPS[1], last=True))


def test_a_wave_walks_its_steps_while_those_before_stay_and_those_ahead_have_nothing() -> None:
    found = [in_each(stage, stage.deal(stage.step.weight)) for stage in stages_of(Canary(steps=STEPS, waves=WAVES))]
    us, eu, asia = REGIONS
    assert found == [{us: 20, eu: 0, asia: 0}, {us: 50, eu: 0, asia: 0}, {us: 50, eu: 20, asia: 20}, {us: 50, eu: 50, asia: 50}]


def test_a_harm_budget_that_affords_less_takes_it_from_the_waves_before_too() -> None:
    last = stages_of(Canary(steps=STEPS, waves=WAVES))[-1]
    assert set(in_each(last, last.deal(10, 10)).values()) == {10}


@given(cuts=some.sets(some.integers(1, 6)), count=some.integers(1, 7), ladder=some.sets(some.integers(1, 99), min_size=1, max_size=5))
def test_whatever_the_waves_no_region_falls_on_the_walk_and_all_end_at_the_last_step(cuts: set[int], count: int, ladder: set[int]) -> None:
    regions = tuple(f"r{number}" for number in range(count))
    edges = [0, *sorted(cut for cut in cuts if cut < count), count]
    steps = tuple(Step(weight=weight, seconds=1) for weight in sorted(ladder))
    walk = stages_of(Canary(steps=steps, waves=tuple(regions[a:b] for a, b in pairwise(edges))))
    met = [in_each(stage, stage.deal(stage.step.weight)) for stage in walk]
    assert all(before[region] <= after[region] for before, after in pairwise(met) for region in regions)
    assert set(met[-1].values()) == {steps[-1].weight}
    assert [stage.last for stage in walk].count(True) == 1
    assert walk[-1].last
    # What a stage begins with is what the one before it ended with
    for (one, ended), (next_, _) in pairwise(zip(walk, met, strict=True)):
        assert in_each(next_, next_.deal(next_.before)) == ended, (one, next_)


def test_where_the_budget_decides_the_shares_each_wave_climbs_the_whole_ladder() -> None:
    walk = stages_of(Canary(harm_budget=50, waves=WAVES))
    assert [stage.step.weight for stage in walk] == [*LADDER, *LADDER]


def test_a_canary_that_follows_its_budget_may_end_sooner_than_the_steps_that_nobody_declared() -> None:
    fleet = toy_fleet(("toy",))
    model = fleet["models"]["toy"] | {"canary": {"harm_budget": 40, "max_seconds": 90}}
    assert Fleet.model_validate({**fleet, "models": {"toy": model}}).models["toy"].canary.max_seconds == 90


def test_the_steps_of_a_later_wave_are_effects_of_their_own() -> None:
    course = Course(REGIONS, "sha256:2", "sha256:1", (20, 50), later=((20, 50),))
    found = [str(effect) for effect in effects_of(Ending.PROMOTED, course) if effect.startswith("weight:")]
    assert found == ["weight:20", "weight:50", "weight:20@2", "weight:50@2", "weight:100"]


@pytest.mark.parametrize(
    ("canary", "says"),
    [
        ({"waves": [["us-east-1"], ["europe-west4"]]}, "must name each region of the model once"),
        ({"waves": [["us-east-1"], ["us-east-1", "europe-west4", "southeastasia"]]}, "must name each region of the model once"),
        ({"waves": [["us-east-1"], ["europe-west4", "mars"]]}, "must name each region of the model once"),
        ({"waves": [[], list(REGIONS)]}, "at least 1 item"),
        ({"waves": [["us-east-1"], list(REGIONS[1:])], "steps": [{"weight": 5, "seconds": 40}], "max_seconds": 60}, "every wave"),
    ],
)
def test_waves_that_cannot_be_walked_are_refused(canary: dict[str, object], says: str) -> None:
    fleet = toy_fleet(("toy",))
    with pytest.raises(ValueError, match=says):
        Fleet.model_validate({**fleet, "models": {"toy": fleet["models"]["toy"] | {"canary": canary}}})


def test_waves_and_switching_at_once_contradict_one_another() -> None:
    fleet = toy_fleet(("toy",))
    model = fleet["models"]["toy"] | {"canary": {"waves": [list(REGIONS)]}, "traffic": {"mode": "blue-green", "bake_seconds": 5}}
    with pytest.raises(ValueError, match=r"canary\.waves raise a share region by region"):
        Fleet.model_validate({**fleet, "models": {"toy": model}})
