"""A region outside the quorum, through the real release flow: it goes on with the revision before, then gets its own copy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from machine_places import Kind
from machine_time import Run
from machine_world import MODEL, OneProcess, World

from clouds.serving import ServingTarget
from fleet.errors import Unreachable
from flows.crossing import ORIGIN
from flows.desires import model_stream
from flows.lagging import CAUGHT_UP, behind, replication_stream
from registry.store import ContentStore
from support.stack import REGIONS

PRIMARY, STANDBY, FOLLOWER = REGIONS
CANARY = {"steps": [{"weight": 20, "seconds": 10}, {"weight": 50, "seconds": 10}], "max_seconds": 120}
EVENTUAL = {"consistency": "eventual", "primary": PRIMARY, "standbys": [STANDBY], "lag_seconds": 30}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A model with a stable version, of which each region has its copy."""
    found = World(tmp_path, {}, {"canary": CANARY, "regions": list(REGIONS), "replication": EVENTUAL})
    want(found)
    found.runs.pass_time(40)
    yield found
    found.close()


def want(world: World, kind: Kind = Kind.GOOD) -> Run:
    world.mlflow.set_alias(MODEL, "candidate", world.mlflow.register(kind))
    world.reconcile()
    return world.runs.begin(world.release)


def places(world: World, digest: str) -> set[tuple[str, ...]]:
    """Return in which regions each edge finds a revision."""
    held = [edge.state().of(MODEL) for edge in world.edges]
    return {tuple(sorted(each.region for each in found.table.backends if each.revision == digest)) for found in held if found is not None}


def test_a_first_release_reaches_the_region_outside_the_quorum_after_its_promotion(world: World) -> None:
    (stable,) = world.facts.stables
    assert world.stores[FOLLOWER].manifest(stable)
    assert world.regions.answers(FOLLOWER, stable)
    assert places(world, stable) == {tuple(sorted(REGIONS))}
    (event,) = world.ledger.stream(replication_stream(MODEL), CAUGHT_UP)
    promoted = world.ledger.last(model_stream(MODEL), "stable.set")
    assert promoted is not None
    assert event.seq > promoted.seq
    assert (event.payload["region"], event.payload["digest"], event.payload["from"]) == (FOLLOWER, stable, ORIGIN)
    assert event.payload["copied"] == 1
    assert behind(world.house, MODEL, world.clock.now() + timedelta(days=1)) == ()


def test_while_a_canary_walks_that_region_goes_on_serving_the_revision_before(world: World) -> None:
    (stable,) = world.facts.stables
    want(world)
    world.runs.pass_time(8)
    assert world.facts.releases["toy-2"].phase == "canary"
    canary = next(digest for digest, version in world.facts.versions.items() if version == "2")
    assert places(world, canary) == {tuple(sorted((PRIMARY, STANDBY)))}
    assert places(world, stable) == {tuple(sorted(REGIONS))}, "its callers, and marks that may go nowhere else, are still answered"
    assert not world.stores[FOLLOWER].has_blob(canary)
    world.runs.pass_time(120)
    assert world.facts.releases["toy-2"].phase == "promoted"
    assert places(world, canary) == {tuple(sorted(REGIONS))}
    assert {digest for _, digest in world.regions.began} == {canary}


def test_requests_are_taken_back_although_a_region_outside_the_quorum_cannot_be_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stable,) = world.facts.stables
    want(world, Kind.HARMFUL)
    world.runs.pass_time(4)
    plain = OneProcess.target

    def target(house: OneProcess, region: str) -> ServingTarget:
        if region == FOLLOWER:
            raise Unreachable(f"region '{region}'", "does not answer")
        return plain(house, region)

    with monkeypatch.context() as patch:
        patch.setattr(OneProcess, "target", target)
        world.runs.pass_time(60)
        assert world.facts.releases["toy-2"].phase == "rolled back"
        assert [edge.percent_of(MODEL, stable) for edge in world.edges] == [100, 100]


def test_a_dead_region_outside_the_quorum_vetoes_no_release_and_lags_until_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stable,) = world.facts.stables
    plain = OneProcess.region_store

    def region_store(house: OneProcess, region: str) -> ContentStore:
        if region == FOLLOWER:
            raise Unreachable(f"store {region}", "does not answer")
        return plain(house, region)

    with monkeypatch.context() as patch:
        patch.setattr(OneProcess, "region_store", region_store)
        del world.regions.began[FOLLOWER, stable]
        want(world)
        world.runs.pass_time(130)
        assert world.facts.releases["toy-2"].phase == "promoted"
        after = world.facts.stables[-1]
        assert places(world, after) == {tuple(sorted((PRIMARY, STANDBY)))}
        (late,) = behind(world.house, MODEL, world.clock.now())
        assert (late.region, late.version, late.over) == (FOLLOWER, "2", True)
    world.runs.begin(world.release)
    world.runs.pass_time(30)
    assert places(world, after) == {tuple(sorted(REGIONS))}
    assert behind(world.house, MODEL, world.clock.now()) == ()
