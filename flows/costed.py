"""What the ledger's stream `costs` says: which bills were reconciled for good, and what each region's periods cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from clouds.billing import Bill
from monitoring.costs.deviations import Period, Place, Rate, rates
from registry.ledger import JSON, Event, Ledger

STREAM = "costs"
RECONCILED = "costs.reconciled"


@dataclass(frozen=True, slots=True)
class Entry:
    """A closed bill as an event lists it."""

    region: str
    hour: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """The newest version of an hour's bill that was reconciled, and the event that says so."""

    version: int
    event: Event


def reconciliations(ledger: Ledger) -> tuple[Event, ...]:
    """Return every reconciliation, oldest first."""
    return tuple(event for event in ledger.stream(STREAM) if event.type == RECONCILED)


def entries(event: Event) -> list[Entry]:
    """Return the closed bills of a reconciliation."""
    listed = [(str(bill["region"]), str(bill["hour"]), int(str(bill["version"])), str(bill["digest"])) for bill in _bills(event)]
    return [Entry(*bill) for bill in listed if bill[2]]


def listing(bills: Iterable[Bill]) -> list[JSON]:
    """Return bills as an event lists them."""
    return [{"region": bill.region, "hour": bill.hour, "version": bill.version, "digest": bill.digest} for bill in bills]


def recorded(events: Iterable[Event]) -> dict[tuple[str, str], Recorded]:
    """Return what was reconciled for good, by region and hour."""
    found: dict[tuple[str, str], Recorded] = {}
    for event in events:
        for entry in entries(event):
            before = found.get((entry.region, entry.hour))
            if before is None or before.version < entry.version:
                found[entry.region, entry.hour] = Recorded(entry.version, event)
    return found


def expected_rates(declared: Mapping[Place, Decimal], events: Sequence[Event], regions: Iterable[str]) -> dict[Place, Rate]:
    """Return what each place of some regions is expected to cost a day: as declared, else by what the region cost before."""
    return {
        place: rate
        for region in sorted(set(regions))
        for place, rate in rates(
            {place: amount for place, amount in declared.items() if place[2] == region}, periods(events, region)
        ).items()
    }


def periods(events: Iterable[Event], region: str) -> tuple[Period, ...]:
    """Return what a region's periods that are over cost, each as it was restated last.

    An hour that goes on is no measure of what comes.
    """
    found: dict[int, Period] = {}
    first: dict[int, int] = {}
    for event in events:
        if event.payload["final"] and any(entry.region == region for entry in entries(event)):
            restated = event.payload.get("restates")
            first[event.seq] = first[restated] if isinstance(restated, int) else event.seq
            found[first[event.seq]] = _period(event, region)
    return tuple(found.values())


def _period(event: Event, region: str) -> Period:
    begins, ends = (datetime.fromisoformat(str(event.payload[name])) for name in ("begins", "ends"))
    costs: dict[Place, Decimal] = defaultdict(Decimal)
    for part in _mappings(event.payload["parts"]):
        if part["region"] == region:
            costs[str(part["currency"]), str(part["model"]), region] += Decimal(str(part["billed"]))
    return Period(max(ends - begins, timedelta(seconds=1)), costs)


def _bills(event: Event) -> list[Mapping[str, JSON]]:
    return _mappings(event.payload["bills"])


def _mappings(value: JSON) -> list[Mapping[str, JSON]]:
    assert isinstance(value, list)
    return value
