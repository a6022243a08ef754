"""A controller that is killed, or paused and woken, at some of the moments of a whole release: all hold that must, and it ends the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine_places import Kind
from machine_time import Run
from machine_world import LEASE, MODEL, World

FULL = {"shadow": {"percent": 50, "seconds": 10}, "bake_seconds": 10}
CANARY = {"steps": [{"weight": 20, "seconds": 5}, {"weight": 50, "seconds": 5}], "max_seconds": 120}
MOMENTS = {"effect": 100, "edge": 190, "ledger": 150}
"""About how many a release has of each kind."""
TRIED = 2
Halt = tuple[str, int]


def some_of(tried: int) -> list[Halt]:
    return [(kind, 1 + number * count // tried) for kind, count in MOMENTS.items() for number in range(tried)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A model with a stable version."""
    found = World(tmp_path, FULL, {"canary": CANARY})
    want(found)
    found.runs.pass_time(40)
    yield found
    found.close()


def want(world: World) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    world.reconcile()
    return world.runs.begin(world.release)


def halted(world: World, halt: Halt) -> Run:
    run = want(world)
    run.only, run.left = halt
    world.runs.pass_time(300)
    return run


def ends_as_the_undisturbed_one(world: World) -> None:
    for _ in range(4):
        world.reconcile()
        world.runs.begin(world.release)
        world.runs.pass_time(150)
    facts = world.facts
    facts.check_ledger()
    facts.check_weights()
    assert facts.releases["toy-2"].phase == "promoted"
    stable = facts.stables[-1]
    assert facts.versions[stable] == "2"
    assert {digest for _, digest in world.regions.began} == {stable}
    assert [edge.percent_of(MODEL, stable) for edge in world.edges] == [100, 100]
    assert world.mlflow.aliases["champion"] == "2"


def killed(world: World, halt: Halt) -> None:
    halted(world, halt).kill()
    world.runs.pass_time(LEASE + 1)
    ends_as_the_undisturbed_one(world)


def woken(world: World, halt: Halt) -> None:
    first = halted(world, halt)
    first.frozen = True
    world.runs.pass_time(LEASE + 1)
    world.runs.begin(world.release)
    world.runs.pass_time(2)
    # Before its table has expired, so that the epoch alone keeps it out
    first.frozen = False
    world.runs.pass_time(1)
    ends_as_the_undisturbed_one(world)
    assert first.ended


@pytest.mark.parametrize("halt", some_of(TRIED), ids=str)
@pytest.mark.parametrize("act", [killed, woken])
def test_a_controller_that_stops_at_any_moment_changes_nothing_of_the_end(
    world: World, act: Callable[[World, Halt], None], halt: Halt
) -> None:
    act(world, halt)


@pytest.mark.hours
@pytest.mark.timeout(0)
@pytest.mark.parametrize("halt", some_of(50), ids=str)
@pytest.mark.parametrize("act", [killed, woken])
def test_a_controller_that_stops_at_many_moments_changes_nothing_of_the_end(
    world: World, act: Callable[[World, Halt], None], halt: Halt
) -> None:
    act(world, halt)
