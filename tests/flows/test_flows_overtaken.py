"""A controller that is overtaken: by the end of its release while it was paused, and by a person right before it promotes."""

from __future__ import annotations

from pathlib import Path

import pytest
from machine_places import Kind, Line
from machine_time import Run
from machine_world import MODEL, World

from fleet.operators import DEFAULT, read_operators
from fleet.versions import Revision
from flows import release
from flows.operating import Wish, operate
from flows.work import Work

WAITING = {"canary": {"steps": [{"weight": 20, "seconds": 600}], "max_seconds": 900}}


def released(world: World, kind: Kind) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(kind))
    world.reconcile()
    return world.runs.begin(world.release)


def say(world: World, command: str) -> None:
    operate(world.house, Wish(MODEL, command, "the test"), read_operators(world.house.home).token_of(DEFAULT), "the test")


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
        say(world, "abort")
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


@pytest.mark.parametrize(("command", "ended"), [("abort", "rolled back"), ("pause", "canary")])
def test_an_order_between_the_verdict_and_the_promotion_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, ended: str
) -> None:
    world, tried = World(tmp_path, {}, {"canary": {"steps": [{"weight": 20, "seconds": 5}], "max_seconds": 900}}), release.tried
    said = []

    def and_then(work: Work, revision: Revision) -> tuple[str, ...]:
        reasons = tried(work, revision)
        if work.desire.version == "2" and not said:
            said.append(command)
            say(world, command)
        return reasons

    monkeypatch.setattr(release, "tried", and_then)
    try:
        released(world, Kind.GOOD)
        world.runs.pass_time(60)
        released(world, Kind.GOOD)
        world.runs.pass_time(90)
        world.facts.catch_up()
        assert said == [command]
        assert world.facts.releases["toy-2"].phase == ended
    finally:
        world.close()


def test_a_bake_that_another_controller_takes_up_goes_on_from_where_it_was(tmp_path: Path) -> None:
    world = World(tmp_path, {"mode": "blue-green", "bake_seconds": 100}, {"canary": {"max_seconds": 900}})
    try:
        released(world, Kind.GOOD)
        world.runs.pass_time(60)
        run = released(world, Kind.GOOD)
        world.runs.pass_time(80)
        world.facts.catch_up()
        assert world.facts.releases["toy-2"].phase == "baking"
        run.kill()
        world.runs.pass_time(15)
        world.runs.begin(world.release)
        world.runs.pass_time(40)
        world.facts.catch_up()
        assert world.facts.releases["toy-2"].phase == "promoted"
    finally:
        world.close()
