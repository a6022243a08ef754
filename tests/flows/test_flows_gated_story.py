"""The whole story of a release whose service is measured and whose regions are asked, told in one process and killed on its way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine_places import Kind
from machine_time import Run
from machine_world import LEASE, MODEL, World

from fleet.canonical import digest_of
from fleet.evidence import GateOutcome, GateResult
from fleet.versions import Revision
from flows import gating, golden_answers, measuring
from flows.desires import release_stream
from flows.effects import Course, Ending, effects_of
from flows.gate_report import as_payload
from flows.house import House
from flows.region_answers import Asked
from flows.work import Work
from policies.golden_set import GoldenSet
from registry.ledger import JSON

SET = GoldenSet("a test", (("x", "FP64"),), ((1.0,),), ("output",), ((2.0,),))
GATED = {
    "canary": {"steps": [{"weight": 20, "seconds": 5}], "max_seconds": 120},
    "gates": {"golden": {"parity": 1}, "service": {"p99_ms": 50}},
}
SLOW, UNLIKE = "2", "2"
"""The versions that the service gate, or one region, refuses."""
FAILED, PASSED = GateOutcome.FAILED, GateOutcome.PASSED


class Told:
    """What the service and the regions say of which version, and how often they were asked."""

    def __init__(self, world: World) -> None:
        self.world, self.slow, self.unlike = world, "", ""
        self.measured: list[str] = []
        self.asked: list[tuple[str, str]] = []

    def decide(self, work: Work, source: object) -> dict[str, Any]:
        data = SET.to_bytes()
        work.house.origin.put_blob(digest_of(data), data)
        return self.world._decide(work, source) | {"golden": {"digest": digest_of(data), "rows": 1, "origin": SET.origin}}

    def measure(self, work: Work, revision: Revision, _: object) -> dict[str, JSON]:
        self.measured.append(revision.version)
        outcome = FAILED if revision.version == self.slow else PASSED
        return {"digest": revision.digest, "results": [as_payload(GateResult("service", outcome, ("p99 was 60 ms",)))]}

    def ask(self, _: House, what: Asked) -> GateResult:
        assert what.kept.golden == SET
        self.asked.append((what.revision.version, what.region))
        differs = what.revision.version == self.unlike and what.region == self.world.edges[1].name
        return GateResult(f"golden answers in {what.region}", FAILED if differs else PASSED, ("as the test has it",))


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A model with a stable version that passed both."""
    world = World(tmp_path, {}, GATED)
    found = Told(world)
    world._patches.setattr(gating, "_decide", found.decide)
    world._patches.setattr(measuring, "_judged", found.measure)
    world._patches.setattr(golden_answers, "asked", found.ask)
    want(world)
    world.runs.pass_time(40)
    yield found
    world.close()


def want(world: World) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(Kind.GOOD))
    world.reconcile()
    return world.runs.begin(world.release)


def completed(world: World, release: str) -> list[str]:
    events = world.ledger.stream(release_stream(release), "effect.completed")
    return [str(event.effect_key) for event in events]


def course(world: World, release: str, *weights: int) -> Course:
    facts = world.facts
    facts.catch_up()
    return Course(
        tuple(edge.name for edge in world.edges), facts.releases[release].digest, facts.stables[0], weights, measured=True, asked=True
    )


def end(world: World) -> str:
    """Tell what is left as reconcile would; returns the phase in which the second release ended."""
    for _ in range(3):
        world.reconcile()
        world.runs.begin(world.release)
        world.runs.pass_time(60)
    world.facts.check_ledger()
    return world.facts.releases["toy-2"].phase


def test_a_version_is_measured_once_and_every_region_is_asked_before_it_has_traffic(told: Told) -> None:
    want(told.world)
    assert end(told.world) == "promoted"
    assert sorted(completed(told.world, "toy-2")) == sorted(effects_of(Ending.MEASURED, course(told.world, "toy-2", 20)))
    assert told.measured == ["1", "2"]
    assert told.asked == [(version, edge.name) for version in ("1", "2") for edge in told.world.edges]
    order = completed(told.world, "toy-2")
    first, second = (edge.name for edge in told.world.edges)
    assert order.index("package") < order.index("service") < order.index(f"replicate:{first}")
    assert order.index(f"deploy:{second}") < order.index(f"golden:{first}") < order.index(f"golden:{second}") < order.index("canary")


def test_a_version_whose_service_is_too_slow_reaches_no_region(told: Told) -> None:
    told.slow = SLOW
    want(told.world)
    assert end(told.world) == "rejected"
    assert completed(told.world, "toy-2") == list(effects_of(Ending.UNFIT, course(told.world, "toy-2")))
    assert {digest for _, digest in told.world.regions.began} == {told.world.facts.stables[-1]}


@pytest.mark.parametrize("moment", [None, 14, 15, 38, 43, 46])
def test_one_region_that_answers_otherwise_ends_the_release_without_traffic_wherever_its_controller_dies(
    told: Told, moment: int | None
) -> None:
    world, told.unlike = told.world, UNLIKE
    run = want(world)
    if moment is not None:
        run.only, run.left = "effect", moment
        world.runs.pass_time(30)
        assert run.halted
        run.kill()
        world.runs.pass_time(LEASE + 1)
    assert end(world) == "rejected"
    assert sorted(completed(world, "toy-2")) == sorted(effects_of(Ending.UNLIKE, course(world, "toy-2")))
    assert {digest for _, digest in world.regions.began} == {world.facts.stables[-1]}
    assert [edge.percent_of(MODEL, world.facts.stables[-1]) for edge in world.edges] == [100, 100]
