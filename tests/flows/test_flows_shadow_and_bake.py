"""Copies before the canary, a bake after it, and everything at once: on the real stack, killed in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows import effects
from flows.effects import Course, Ending, effects_of
from support.stack import AT_ONCE, REGIONS, SHADOWED
from support.waiting import wait_until

if TYPE_CHECKING:
    from control.views import ReleaseView
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400), pytest.mark.usefixtures("alone")]

STEPS = (20, 50)
KILLED = ("acted shadow", "between shadow:seen", "acted shadow:seen", "between bake", "acted bake")


@pytest.fixture(scope="module")
def first(stack: TestStack) -> dict[str, str]:
    """The digests of the first, good versions of both models."""
    found = {}
    for model in (SHADOWED, AT_ONCE):
        done = stack.release(model, stack.register(model))
        assert done.returncode == 0, done.stderr
        assert stack.releases(model)[0].phase == "promoted", stack.releases(model)[0].reasons
        found[model] = str(stack.releases(model)[0].digest)
    return found


def completed(stack: TestStack, view: ReleaseView) -> list[str]:
    events = stack.house.ledger.stream(f"release/{view.release}")
    return [str(event.effect_key) for event in events if event.type == "effect.completed"]


def phases(stack: TestStack, view: ReleaseView) -> list[str]:
    events = stack.house.ledger.stream(f"release/{view.release}")
    return [str(event.payload["phase"]) for event in events if event.type == "phase.entered"]


def payload(stack: TestStack, view: ReleaseView, effect: str) -> dict[str, object]:
    """Return what an effect's completion says."""
    events = stack.house.ledger.stream(f"release/{view.release}")
    (found,) = (event.payload for event in events if event.type == "effect.completed" and event.effect_key == effect)
    return dict(found)


def told(stack: TestStack, model: str, version: str, crashes: tuple[str, ...] = ()) -> ReleaseView:
    """Want a version and tell its release to the end, killed on the way at each place that is named."""
    stack.want(model, version)
    for crash in crashes:
        assert stack.flow(f"release({model!r})", CONVOY_CRASH_AT=crash).returncode == -9, crash
        wait_until(lambda: stack.house.leases.current(model) is None, 20, what="the dead controller's lease has run out")
    done = stack.flow(f"release({model!r})")
    assert done.returncode == 0, done.stderr
    return stack.ended(model, len(stack.releases(model)))


@pytest.mark.long
def test_a_good_version_answers_copies_is_canaried_and_bakes_and_is_promoted_however_often_it_is_killed(
    stack: TestStack, first: dict[str, str]
) -> None:
    with stack.load(SHADOWED) as load:
        view = told(stack, SHADOWED, stack.register(SHADOWED, offset=1.0), KILLED)
    assert view.phase == "promoted", view.reasons
    assert load.failed() == []
    course = Course(REGIONS, str(view.digest), first[SHADOWED], STEPS, shadowed=True, baked=True)
    assert sorted(completed(stack, view)) == sorted(effects_of(Ending.PROMOTED, course))
    assert phases(stack, view)[4:] == ["shadowing", "canary", "baking", "promoting", "promoted"]
    seen = payload(stack, view, effects.SEEN)
    assert int(str(seen["answers"])) >= 90
    assert seen["bad"] == 0
    assert payload(stack, view, effects.BAKE)["seen"] == {"edge": 100}


def test_a_version_that_fails_is_found_by_its_copies_and_no_caller_meets_it(stack: TestStack, first: dict[str, str]) -> None:
    stable = stack.releases(SHADOWED)[-1].digest
    with stack.load(SHADOWED, 60) as load:
        view = told(stack, SHADOWED, stack.register(SHADOWED, "fails"))
    assert view.phase == "rolled back", view.reasons
    assert view.reasons[0].startswith("As a shadow: The canary gives more bad answers than")
    assert "canary" not in phases(stack, view)
    assert load.failed() == []
    assert {sent["revision"] for sent in load.answers()} == {stable}
    assert sorted(completed(stack, view)) == sorted(
        effects_of(Ending.ROLLED_BACK, Course(REGIONS, str(view.digest), shadowed=True, once=True))
    )


@pytest.mark.long
def test_what_is_switched_at_once_bakes_and_is_promoted_without_a_canary(stack: TestStack, first: dict[str, str]) -> None:
    with stack.load(AT_ONCE, 60) as load:
        view = told(stack, AT_ONCE, stack.register(AT_ONCE, offset=1.0), ("acted bake",))
    assert view.phase == "promoted", view.reasons
    assert load.failed() == []
    assert phases(stack, view)[4:] == ["baking", "promoting", "promoted"]
    course = Course(REGIONS, str(view.digest), first[AT_ONCE], baked=True, once=True)
    assert sorted(completed(stack, view)) == sorted(effects_of(Ending.PROMOTED, course))
    assert {sent["revision"] for sent in load.answers()} == {first[AT_ONCE], view.digest}


@pytest.mark.long
def test_harm_while_it_bakes_goes_back_to_what_was_kept_warm(stack: TestStack, first: dict[str, str]) -> None:
    stable = stack.releases(AT_ONCE)[-1].digest
    with stack.load(AT_ONCE, 60) as load:
        view = told(stack, AT_ONCE, stack.register(AT_ONCE, "resets europe-west4"))
    assert view.phase == "rolled back", view.reasons
    assert "europe-west4" in " ".join(view.reasons)
    assert load.failed() == []
    course = Course(REGIONS, str(view.digest), baked=True, once=True)
    assert sorted(completed(stack, view)) == sorted(effects_of(Ending.ROLLED_BACK, course))
    state = stack.house.edges[0].state().of(AT_ONCE)
    assert state is not None
    assert state.percent_of(str(stable)) == 100
