"""Regions that get the stable revision after its promotion: copied there, recorded, and only then served from."""

from __future__ import annotations

from contextlib import suppress

from fleet.errors import IntegrityError, TransientError
from fleet.versions import Revision
from flows.crossing import ORIGIN, Way, bring
from flows.house import House
from flows.lagging import CAUGHT_UP, has_copy, replication_stream
from flows.work import Claim
from registry.ledger import JSON, NewEvent


def catch_up(house: House, stable: Revision, region: str, claim: Claim) -> None:
    """Have the stable revision in a region's store, read back there; what had to be copied is recorded.

    Raises Refused where it must not lie there, before anything is written.
    """
    claim.check(house)
    told = _brought(house, stable, region)
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


def _brought(house: House, stable: Revision, region: str) -> dict[str, JSON]:
    """Bring the revision from any region of the same provider that has it whole, else from the origin."""
    named, provider = (stable.model, stable.digest), house.fleet.regions[region].provider
    for other in house.model(stable.model).regions:
        if other != region and house.fleet.regions[other].provider == provider and _has(house, other, stable):
            # A copy that has rotted there is the scrub's; one that is wrong here is found again below
            with suppress(IntegrityError, TransientError):
                return bring(house, Way(region, provider, other), named, house.region_store(other))
    return bring(house, Way(region, provider, ORIGIN), named, house.origin)


def _has(house: House, region: str, stable: Revision) -> bool:
    """Whether a region's store has the revision; one that is away keeps no other from its own."""
    try:
        return house.region_store(region).has_blob(stable.digest)
    except TransientError:
        return False
