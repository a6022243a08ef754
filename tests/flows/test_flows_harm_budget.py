"""A canary that follows its harm budget on the real stack: what it may cost decides its shares, and no timer does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.stack import BUDGET, BUDGETED

if TYPE_CHECKING:
    from control.views import ReleaseView
    from support.stack import TestStack

pytestmark = [pytest.mark.long, pytest.mark.stack, pytest.mark.timeout(400), pytest.mark.usefixtures("alone")]


@pytest.fixture(scope="module")
def first(stack: TestStack) -> None:
    """A first, good version."""
    done = stack.release(BUDGETED, stack.register(BUDGETED))
    assert done.returncode == 0, done.stderr
    assert stack.releases(BUDGETED)[0].phase == "promoted", stack.releases(BUDGETED)[0].reasons


def shares(stack: TestStack, view: ReleaseView) -> list[int]:
    """Return the share that the canary had at each look."""
    return [int(str(event.payload["weight"])) for event in stack.house.ledger.stream(f"release/{view.release}", "canary.judged")]


def cost(stack: TestStack, view: ReleaseView) -> int:
    """Return how many bad answers the canary gave in all."""
    (counted,) = (
        event for event in stack.house.ledger.stream(f"release/{view.release}", "effect.completed") if event.effect_key == "count"
    )
    return int(str(counted.payload["bad"]))


def test_the_share_grows_as_clean_answers_show_that_the_budget_affords_it(stack: TestStack, first: None) -> None:
    with stack.load(BUDGETED, 60) as load:
        stack.want(BUDGETED, stack.register(BUDGETED, offset=1.0))
        done = stack.flow(f"release({BUDGETED!r})")
        assert done.returncode == 0, done.stderr
        view = stack.ended(BUDGETED, len(stack.releases(BUDGETED)))
    assert view.phase == "promoted", view.reasons
    assert load.failed() == []
    given = [share for share in shares(stack, view) if share]
    assert given[0] <= 5
    assert max(given) == 50


def test_a_version_that_fails_costs_no_more_than_its_budget(stack: TestStack, first: None) -> None:
    with stack.load(BUDGETED, 60) as load:
        stack.want(BUDGETED, stack.register(BUDGETED, "fails"))
        done = stack.flow(f"release({BUDGETED!r})")
        assert done.returncode == 0, done.stderr
        view = stack.ended(BUDGETED, len(stack.releases(BUDGETED)))
    assert view.phase == "rolled back", view.reasons
    assert 0 < cost(stack, view) <= BUDGET
    assert len(load.failed()) <= BUDGET
    assert max(shares(stack, view)) < 50, "how far it climbs first follows from the rate of requests"
