"""Regions that get the stable revision after its promotion: copied there, recorded, and only then served from."""

from __future__ import annotations

from fleet.errors import TransientError
from fleet.versions import Revision
from flows.crossing import ORIGIN, Way, bring
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
    """Return how a region gets the revision: from any region of its provider that has it, else from the origin."""
    provider = house.fleet.regions[region].provider
    for other in house.model(stable.model).regions:
        if other != region and house.fleet.regions[other].provider == provider and _has(house, other, stable):
            return Way(region, provider, other), house.region_store(other)
    return Way(region, provider, ORIGIN), house.origin


def _has(house: House, region: str, stable: Revision) -> bool:
    """Whether a region's store has the revision; one that is away keeps no other from its own."""
    try:
        return house.region_store(region).has_blob(stable.digest)
    except TransientError:
        return False
