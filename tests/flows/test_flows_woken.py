"""A controller that was paused and wakes behind the end of its release, while no edge has heard of its successor."""

from __future__ import annotations

from pathlib import Path

from machine_places import Kind, Line
from machine_time import Run
from machine_world import MODEL, World

from fleet.operators import DEFAULT, read_operators
from flows.operating import Wish, operate

WAITING = {"canary": {"steps": [{"weight": 20, "seconds": 600}], "max_seconds": 900}}


def released(world: World, kind: Kind) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(kind))
    world.reconcile()
    return world.runs.begin(world.release)


def test_a_woken_controller_gives_no_requests_to_a_release_that_has_ended(tmp_path: Path) -> None:
    world = World(tmp_path, {}, WAITING)
    try:
        released(world, Kind.GOOD)
        world.runs.pass_time(60)
        first = released(world, Kind.UNDECIDED)
        world.runs.pass_time(40)
        world.facts.catch_up()
        canary = world.facts.releases["toy-2"].digest
        assert [edge.percent_of(MODEL, canary) for edge in world.edges] == [20, 20]
        # It stops between its last look at the lease and its next word to an edge
        first.only, first.left = "edge", 1
        world.runs.pass_time(10)
        first.frozen = True
        for edge in world.edges:
            edge.become(Line.FAR)
        world.runs.pass_time(20)
        operate(world.house, Wish(MODEL, "abort", "the test"), read_operators(world.house.home).token_of(DEFAULT), "the test")
        world.runs.begin(world.release)
        world.runs.pass_time(80)
        world.facts.catch_up()
        # Nobody could read the edges, so what runs is kept
        assert world.facts.releases["toy-2"].phase == "failed"
        for edge in world.edges:
            edge.become(Line.UP)
        first.frozen = False
        world.runs.pass_time(1)
        assert [edge.percent_of(MODEL, canary) for edge in world.edges] == [0, 0]
        assert first.ended
    finally:
        world.close()
