"""Regions that get the stable revision after its promotion: copied there, recorded, and only then served from."""

from __future__ import annotations

from fleet.errors import TransientError
from fleet.versions import Revision
from flows.crossing import ORIGIN, Way, bring, ways
from flows.house import House
from flows.lagging import CAUGHT_UP, has_copy, replication_stream
from flows.work import Claim
from registry.ledger import NewEvent
from registry.replicate import PartSource


def catch_up(house: House, stable: Revision, region: str, claim: Claim) -> None:
    """Have the stable revision in a region's store, read back there; what had to be copied is recorded.

    Raises Refused where it must not lie there, before anything is written.
    """
    way, source = _nearest(house, stable, region)
    claim.check(house)
    told = bring(house, way, (stable.model, stable.digest), source)
    if told["copied"] or not has_copy(house.ledger, stable, region):
        event = NewEvent(
            replication_stream(stable.model),
            CAUGHT_UP,
            told | {"version": stable.version},
            claim.lease.holder,
            epoch=claim.lease.epoch,
            model=stable.model,
        )
        house.ledger.append(event)


def _nearest(house: House, stable: Revision, region: str) -> tuple[Way, PartSource]:
    """Return how a region gets the revision: from its provider's first region where that has it, else from the origin."""
    way = next(found for found in ways(house.fleet, house.model(stable.model).regions) if found.region == region)
    if not way.crosses:
        near = house.region_store(way.source)
        try:
            if near.has_blob(stable.digest):
                return way, near
        except TransientError:
            # One that is away keeps no other from its revision
            return Way(region, way.provider, ORIGIN), house.origin
    return Way(region, way.provider, ORIGIN), house.origin
