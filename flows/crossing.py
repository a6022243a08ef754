"""How a revision gets to its regions: over each provider's border once, and from there to its other regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from fleet.declared import Fleet
from fleet.errors import Refused
from fleet.transfers import grants_for
from flows.house import House
from registry.ledger import JSON
from registry.lines import Line
from registry.receipts import Receipts
from registry.replicate import How, PartSource, Progress, Replicated, replicate

ORIGIN = "origin"
GIB = Decimal(1 << 30)
Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Way:
    """How one region gets a revision: from the origin, over its provider's border, or from a region of the same provider."""

    region: str
    provider: str
    source: str

    @property
    def crosses(self) -> bool:
        """Whether it goes over the provider's border."""
        return self.source == ORIGIN


def ways(fleet: Fleet, regions: Sequence[str]) -> tuple[Way, ...]:
    """Return how each of some regions gets a revision: of each provider the first one takes it in for the others."""
    gates: dict[str, str] = {}
    found = []
    for region in regions:
        provider = fleet.regions[region].provider
        found.append(Way(region, provider, gates.get(provider, ORIGIN)))
        gates.setdefault(provider, region)
    return tuple(found)


def bring(
    house: House, way: Way, named: tuple[str, str], source: PartSource, tell: Callable[[Progress], None] | None = None
) -> dict[str, JSON]:
    """Have a revision, named by model and digest, in a region's store, read back there; returns what it took.

    Raises Refused where it must not lie there, before anything is written.
    """
    model, digest = named
    store = house.region_store(way.region)
    grants = _grants(house, model, way.region, there=store.has_blob(digest))
    done = replicate(digest, source, store, How(line_to(house, way.region), Receipts(house.home.receipts, store.name), tell))
    told: dict[str, JSON] = {"region": way.region, "digest": digest, "copied": done.copied, "present": done.present, "bytes": done.bytes}
    told |= {"read": done.read, "spared": done.spared, "from": way.source}
    return told | _border(house.fleet, way, done) | _granted(house.fleet, grants)


def misplaced(house: House, model: str, digest: str) -> tuple[str, ...]:
    """Return why a revision must not be copied to some of the model's regions, in words; nothing when it may, or is there already."""
    told = []
    for region in house.model(model).regions:
        try:
            grants_for(house.fleet, model, region, datetime.now(UTC))
        except Refused as problem:
            if not house.region_store(region).has_blob(digest):
                told.append(str(problem))
    return tuple(told)


def line_to(house: House, region: str) -> Line | None:
    """Return the bounded line to a region, None where fleet.yaml bounds none."""
    bound = house.fleet.regions[region].line_mib_per_second
    return None if bound is None else Line(house.home.lines / region, bound << 20)


def price_of(fleet: Fleet, region: str, sent: int, read: int) -> tuple[Decimal, str] | None:
    """Return what a region charges for bytes that come in and for those that are read back over its border, None without prices."""
    prices = fleet.regions[region].prices
    if prices is None:
        return None
    return (sent * prices.gib_in + read * prices.gib_out) / GIB, prices.currency


def _grants(house: House, model: str, region: str, *, there: bool) -> tuple[str, ...]:
    """Return by which grants a revision is copied to a region; one that ran out takes nothing away that is there already."""
    try:
        return grants_for(house.fleet, model, region, datetime.now(UTC))
    except Refused:
        if not there:
            raise
        return ()


def _border(fleet: Fleet, way: Way, done: Replicated) -> dict[str, JSON]:
    if not way.crosses:
        return {}
    found: dict[str, JSON] = {"border": way.provider}
    if (price := price_of(fleet, way.region, done.bytes, done.read)) is not None:
        found |= {"price": format(price[0].quantize(Decimal("1e-18")).normalize(), "f"), "currency": price[1]}
    return found


def _granted(fleet: Fleet, grants: Sequence[str]) -> dict[str, JSON]:
    """Return who answers for a transfer, and why, as they stood when it was made."""
    told = {name: fleet.transfers[name] for name in grants}
    found: dict[str, JSON] = {
        name: {"classes": list(grant.classes), "basis": grant.basis, "approver": grant.approver, "expires": grant.expires}
        for name, grant in told.items()
    }
    return {"grants": found} if found else {}
