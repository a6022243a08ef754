"""Keeping the stable revision where it belongs: in every region and at every edge."""

from __future__ import annotations

import time

from prefect import get_run_logger

from clouds.serving import State
from fleet.canonical import short
from fleet.errors import ConvoyError, TransientError
from fleet.versions import Revision
from flows.desires import CHAMPION, unfinished
from flows.house import House
from flows.routing import apply, backends
from flows.shipping import start_and_wait
from flows.work import Claim, release_revision, stable_of
from registry.store import copy
from traffic.table import RoutingTable, Share


def behind(house: House, model: str) -> list[str]:
    """Return why a model's actual state is behind the last promotion, in words; nothing when it is not."""
    stable = stable_of(house, model)
    if stable is None:
        return []
    found = []
    for region in house.model(model).regions:
        status = house.target(region).status_of(region, model, stable.digest)
        if status.state is not State.READY:
            found.append(f"{region}: {short(stable.digest)} is {status.state.value}")
        ref = house.region_store(region).resolve(model)
        if ref is None or ref.digest != stable.digest:
            found.append(f"{region}: its store does not name {short(stable.digest)}")
        found += [f"{region}: {short(digest)} runs and nobody wants it" for digest in strays(house, model, region)]
    return found + edges_behind(house, stable) + champion_behind(house, stable)


def strays(house: House, model: str, region: str) -> list[str]:
    """Return the revisions that run in a region and are neither stable nor of a release under way."""
    stable = stable_of(house, model)
    under_way = [release_revision(house, desire) for desire in unfinished(house.ledger, model)]
    wanted = {found.digest for found in (stable, *under_way) if found is not None}
    return [status.revision for status in house.target(region).status(model, region) if status.revision not in wanted]


def champion_behind(house: House, stable: Revision) -> list[str]:
    """Return whether the alias champion, which Convoy alone writes, names something else than the stable version."""
    try:
        champion = house.models.alias(stable.model, CHAMPION)
    except TransientError as problem:
        get_run_logger().warning("%s: %s", stable.model, problem)
        return []
    return [] if champion == stable.version else [f"alias {CHAMPION} names {champion or 'nothing'} instead of {stable.version}"]


def edges_behind(house: House, stable: Revision) -> list[str]:
    """Return which edges do not send everything to the stable revision."""
    found = []
    for edge in house.edges:
        try:
            state = edge.state().of(stable.model)
        except TransientError as problem:
            found.append(str(problem))
            continue
        if state is None or state.percent_of(stable.digest) != 100:
            found.append(f"edge {edge.name}: {short(stable.digest)} does not have all requests")
    return found


def restore_stable(house: House, model: str, claim: Claim) -> list[str]:
    """Bring regions, edges and the alias back to the stable revision; returns what was done, in words.

    Each region is tried; the edges get those that are ready. Raises the first region's error when all else is done.
    """
    stable = stable_of(house, model)
    reasons = behind(house, model)
    if stable is None or not reasons:
        return []
    problems = [problem for region in house.model(model).regions if (problem := restore_region(house, stable, region, claim)) is not None]
    if edges_behind(house, stable):
        route_to_stable(house, stable, claim)
    if champion_behind(house, stable):
        claim.check(house)
        house.models.set_alias(model, CHAMPION, stable.version)
    if problems:
        raise problems[0]
    return [f"{model}: stable restored ({'; '.join(reasons)})"]


def restore_region(house: House, stable: Revision, region: str, claim: Claim) -> ConvoyError | None:
    """Have the stable revision in one region, and nothing that nobody wants; returns what stood in the way."""
    try:
        claim.check(house)
        copy(stable.digest, house.origin, house.region_store(region))
        start_and_wait(house, stable, region)
        house.region_store(region).point(stable.model, stable.digest, claim.lease.epoch)
        for digest in strays(house, stable.model, region):
            house.target(region).retire(region, stable.model, digest)
    except ConvoyError as problem:
        get_run_logger().error("%s in %s: %s", stable.model, region, problem)
        return problem
    return None


def route_to_stable(house: House, stable: Revision, claim: Claim) -> None:
    """Give the stable revision everything at every edge, in the regions that have it."""
    everything = (Share(stable.digest, 100),)
    declared = house.model(stable.model)
    table = RoutingTable(
        model=stable.model,
        epoch=claim.lease.epoch,
        version=next(claim.versions),
        expires_at=time.time() + house.settings.table_seconds,
        shares=everything,
        safe=everything,
        backends=backends(house, stable, declared.regions, required=False),
        latency_ms=min(slo.latency_ms for slo in declared.slo.values()),
    )
    apply(house, table)
