"""Keeping the stable revision where it belongs: in every region and at every edge."""

from __future__ import annotations

import time

from clouds.serving import State
from fleet.canonical import short
from fleet.errors import TransientError
from fleet.versions import Revision
from flows.house import House
from flows.routing import apply, backends
from flows.shipping import start_and_wait
from flows.work import Claim, stable_of
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
    return found + edges_behind(house, stable)


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
    """Deploy the stable revision where it is missing and route to it; returns what was done, in words."""
    stable = stable_of(house, model)
    reasons = behind(house, model)
    if stable is None or not reasons:
        return []
    regions = house.model(model).regions
    for region in regions:
        copy(stable.digest, house.origin, house.region_store(region))
        start_and_wait(house, stable, region)
    everything = (Share(stable.digest, 100),)
    apply(
        house,
        RoutingTable(
            model=model,
            epoch=claim.lease.epoch,
            version=next(claim.versions),
            expires_at=time.time() + house.settings.table_seconds,
            shares=everything,
            safe=everything,
            backends=backends(house, stable, regions, required=True),
            latency_ms=min(slo.latency_ms for slo in house.model(model).slo.values()),
        ),
    )
    return [f"{model}: stable restored ({'; '.join(reasons)})"]
