"""A canary in waves on the real stack: one region after the other meets it, and harm in any takes it back in all."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from flows.effects import Course, Ending, effects_of
from support.stack import IN_WAVES, REGIONS, WAVES
from support.waiting import wait_until

if TYPE_CHECKING:
    from control.views import ReleaseView
    from support.stack import TestStack

pytestmark = [pytest.mark.long, pytest.mark.stack, pytest.mark.timeout(400), pytest.mark.usefixtures("alone")]

STEPS = (20, 50)


@pytest.fixture(scope="module")
def first(stack: TestStack) -> str:
    """The digest of the first, good version."""
    done = stack.release(IN_WAVES, stack.register(IN_WAVES))
    assert done.returncode == 0, done.stderr
    (view,) = stack.releases(IN_WAVES)
    assert view.phase == "promoted", view.reasons
    return str(view.digest)


def weights(stack: TestStack, view: ReleaseView) -> list[str]:
    """Return the effects by which the release changed weights, as they were completed."""
    events = stack.house.ledger.stream(f"release/{view.release}", "effect.completed")
    return [str(event.effect_key) for event in events if str(event.effect_key).startswith("weight:")]


def met_by_wave(stack: TestStack, view: ReleaseView) -> dict[int, set[str]]:
    """Return in which regions the judge had counted answers of the canary by the end of each wave."""
    found, so_far = defaultdict[int, set[str]](set), set[str]()
    for event in stack.house.ledger.stream(f"release/{view.release}", "canary.judged"):
        regions = event.payload["regions"]
        assert isinstance(regions, list)
        so_far |= {str(each["region"]) for each in regions if isinstance(each, dict) and each["canary"]["attempts"]}  # type: ignore[call-overload,index]
        found[int(str(event.payload.get("wave", 1)))] |= so_far
    return dict(found)


def test_a_good_version_meets_one_wave_after_the_other_and_is_promoted_though_it_is_killed_in_the_second(
    stack: TestStack, first: str
) -> None:
    with stack.load(IN_WAVES, 60) as load:
        stack.want(IN_WAVES, stack.register(IN_WAVES, offset=1.0))
        assert stack.flow(f"release({IN_WAVES!r})", CONVOY_CRASH_AT="acted weight:20@2").returncode == -9
        killed = stack.releases(IN_WAVES)[-1]
        before = met_by_wave(stack, killed)
        wait_until(lambda: stack.house.leases.current(IN_WAVES) is None, 20, what="the dead controller's lease has run out")
        done = stack.flow(f"release({IN_WAVES!r})")
        assert done.returncode == 0, done.stderr
        view = stack.ended(IN_WAVES, len(stack.releases(IN_WAVES)))
    assert view.phase == "promoted", view.reasons
    assert load.failed() == []
    assert before == {1: set(WAVES[0])}
    assert met_by_wave(stack, view)[2] == set(REGIONS)
    course = Course(REGIONS, str(view.digest), first, STEPS, later=(STEPS,))
    completed = stack.house.ledger.stream(f"release/{view.release}", "effect.completed")
    assert sorted(str(event.effect_key) for event in completed) == sorted(effects_of(Ending.PROMOTED, course))


@pytest.mark.long
def test_harm_in_the_second_wave_takes_the_requests_back_in_the_first_as_well(stack: TestStack, first: str) -> None:
    stable = stack.releases(IN_WAVES)[-1].digest
    with stack.load(IN_WAVES, 60) as load:
        stack.want(IN_WAVES, stack.register(IN_WAVES, "resets europe-west4"))
        done = stack.flow(f"release({IN_WAVES!r})")
        assert done.returncode == 0, done.stderr
        view = stack.ended(IN_WAVES, len(stack.releases(IN_WAVES)))
    assert view.phase == "rolled back", view.reasons
    assert "europe-west4" in " ".join(view.reasons)
    assert load.failed() == []
    assert weights(stack, view)[:3] == ["weight:20", "weight:50", "weight:20@2"]
    assert weights(stack, view)[-1] == "weight:0"
    state = stack.house.edges[0].state().of(IN_WAVES)
    assert state is not None
    assert state.percent_of(str(stable)) == 100
    assert state.table.regional == ()
