"""Killed anywhere: a few of the cases that `make proof` tries all of, other ones with each commit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from flows.effects import Course, Ending
from proof.cases import NEVER, REVISION, STABLE, Case, boundaries, sampled
from proof.stage import Stage, sources_of
from proof.sweep import Lane
from proof.teller import ROOT, Teller
from support.stack import REGIONS

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.long, pytest.mark.stack, pytest.mark.timeout(400)]

MODEL = "killed"
CASES = 2
WEIGHTS = (20, 50)
COURSES = {
    Ending.PROMOTED: Course(REGIONS, REVISION, STABLE, WEIGHTS),
    Ending.BACK: Course(REGIONS, REVISION, STABLE),
    Ending.REJECTED: Course(REGIONS, REVISION, STABLE),
}


def seed() -> int:
    """Return the commit as a number: each commit tries other cases, and the same ones whenever it is tested again."""
    found = subprocess.run(("git", "rev-parse", "HEAD"), cwd=ROOT, capture_output=True, text=True, check=False)
    return int(found.stdout.strip() or "0", 16)


@pytest.fixture(scope="module")
def lane(stack: TestStack) -> Iterator[Lane]:
    """A model with two versions that were stable; nobody killed their releases."""
    teller = Teller(stack.environment, stack.house.home.logs)
    found = Lane(Stage(stack, teller, sources_of(stack)), MODEL, COURSES)
    found.stage.bring_up(MODEL)
    with stack.load(MODEL) as load:
        uncrashed = found.run(Case(Ending.PROMOTED, NEVER))
    assert (uncrashed.wrong, load.failed()) == ((), [])
    yield found
    teller.close()


@pytest.mark.parametrize("case", sampled(CASES, seed(), boundaries(COURSES)), ids=str)
def test_a_release_that_is_killed_ends_as_the_uncrashed_one_does(lane: Lane, case: Case) -> None:
    with lane.stage.stack.load(MODEL) as load:
        tried = lane.run(case)
    assert tried.wrong == ()
    assert tried.killed
    assert load.failed() == []
