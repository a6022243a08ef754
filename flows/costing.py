"""The bills of all regions, what they came to, and the ledger's stream `costs`, which says what was reconciled already."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from clouds.billing import Bill
from clouds.local.files import write_private
from clouds.targets import bills_of
from fleet.errors import NotSupported
from flows.house import House
from monitoring.costs.deviations import ALL, Comparison, Outcome, Period, Place, plain, rates
from monitoring.costs.reconciling import Reconciliation, reconcile
from monitoring.costs.splitting import per_thousand
from registry.ledger import JSON, Event, Ledger, NewEvent

STREAM = "costs"
RECONCILED = "costs.reconciled"
KEPT_REPORTS = 200
"""The ledger keeps all that stands in them."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The bills that are not reconciled yet, and why a region has none.

    `groups` holds the closed hours, reconciled once and for all, then the hour that goes on; neither is ever empty.
    """

    groups: tuple[tuple[Bill, ...], ...]
    without: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """Reconciled bills and the event that says so; `new` is False where the same bills were recorded before."""

    bills: tuple[Bill, ...]
    reconciliation: Reconciliation
    event: Event
    new: bool

    @property
    def final(self) -> bool:
        """Whether all of the period is over."""
        return all(bill.closed for bill in self.bills)

    @property
    def sentence(self) -> str:
        """What it came to, for people."""
        found = self.reconciliation
        sums = ", ".join(f"{plain(total.cost)} {total.place[0]}" for total in found.comparisons if total.place[1] == ALL)
        span = f"{found.begins:%Y-%m-%d %H:%M:%S} to {found.ends:%Y-%m-%d %H:%M:%S} UTC"
        return f"{sums} from {span}, {len(found.deviations)} deviations over {found.threshold:.1%}" + ("" if self.final else ", so far")


def gather(house: House, now: datetime) -> Gathered:
    """Bring every region's bills up to date and return those that the ledger does not have."""
    known, without = _through(house.ledger), []
    bills: list[Bill] = []
    for name, region in house.fleet.regions.items():
        try:
            source = bills_of(region.target)(house.home, house.fleet.name)
            bills += source.bills(name, region, now, known.get(name, ""))
        except NotSupported as problem:
            without.append(str(problem))
    groups = (tuple(bill for bill in bills if bill.closed is closed) for closed in (True, False))
    return Gathered(tuple(group for group in groups if group), tuple(without))


def settle(house: House, bills: tuple[Bill, ...], actor: str) -> Settled:
    """Reconcile bills against the forecasts and record it; the same bills again are not recorded twice.

    Raises Busy when somebody else reconciled meanwhile.
    """
    events = [event for event in house.ledger.stream(STREAM) if event.type == RECONCILED]
    expected = rates(declared_forecasts(house), tuple(_periods(events)))
    found = reconcile([bill.file for bill in bills], expected, house.fleet.costs.deviation)
    listed = [_listed(bill) for bill in bills]
    if events and events[-1].payload["bills"] == listed:
        return Settled(bills, found, events[-1], new=False)
    payload = {"final": all(bill.closed for bill in bills), "bills": listed, **summary(found)}
    event = house.ledger.append(NewEvent(STREAM, RECONCILED, payload, actor), expected=len(events))
    return Settled(bills, found, event, new=True)


def write_report(house: House, settled: Settled) -> Path:
    """Write what was recorded as JSON and return the file; the oldest reports go."""
    folder = house.home.reports / "costs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / f"{settled.reconciliation.ends:%Y%m%dT%H%M%SZ}-{settled.event.seq}.json"
    write_private(file, json.dumps({"event": settled.event.seq, **settled.event.payload}, indent=2).encode())
    for old in sorted(folder.glob("*.json"))[:-KEPT_REPORTS]:
        old.unlink(missing_ok=True)
    return file


def declared_forecasts(house: House) -> dict[Place, Decimal]:
    """Return what fleet.yaml expects each model to cost a day, in each region that has prices."""
    regions = house.fleet.regions
    return {
        (prices.currency, name, region): forecast.per_day
        for name, model in house.fleet.models.items()
        for region, forecast in model.forecast.items()
        if (prices := regions[region].prices) is not None
    }


def summary(found: Reconciliation) -> dict[str, JSON]:
    """Return a reconciliation as JSON, its amounts as strings with all their digits."""
    return {
        "outcome": _outcome(found),
        "reasons": [
            f"{told.place[1]} in {told.place[2]}: {told.reason}" for told in found.comparisons if told.deviates or told.place[1] == ALL
        ],
        "begins": found.begins.isoformat(),
        "ends": found.ends.isoformat(),
        "threshold": plain(found.threshold),
        "totals": [
            {
                "period": total.period,
                "currency": total.currency,
                "rows": total.rows,
                "billed": plain(total.billed),
                "effective": plain(total.effective),
                "row_digest": total.row_digest,
            }
            for total in found.totals
        ],
        "parts": [
            {
                "currency": part.currency,
                "model": part.model,
                "region": part.region,
                "traffic": part.traffic,
                "rows": part.rows,
                "billed": plain(part.billed),
                "predictions": plain(part.predictions),
            }
            for part in found.parts
        ],
        "places": [_place(found, comparison) for comparison in found.comparisons],
    }


def _outcome(found: Reconciliation) -> str:
    """Return the whole's outcome in a word: deviations, where any place has one; never within where a total has no forecast."""
    if found.deviations:
        return "deviations"
    unknown = any(told.outcome is Outcome.NO_FORECAST for told in found.comparisons if told.place[1] == ALL)
    return (Outcome.NO_FORECAST if unknown else Outcome.WITHIN).value


def _place(found: Reconciliation, comparison: Comparison) -> dict[str, JSON]:
    currency, model, region = comparison.place
    predictions = sum((count for place, (_, count) in found.costs.items() if _within(place, comparison.place)), Decimal(0))
    thousand = per_thousand(comparison.cost, predictions)
    amounts = {"forecast": comparison.forecast, "difference": comparison.difference, "share": comparison.share, "per_thousand": thousand}
    return {
        "currency": currency,
        "model": model,
        "region": region,
        "billed": plain(comparison.cost),
        "predictions": plain(predictions),
        "outcome": comparison.outcome.value,
        "reason": comparison.reason,
        **{name: None if amount is None else plain(amount) for name, amount in amounts.items()},
    }


def _within(place: Place, whole: Place) -> bool:
    return place == whole or (place[0] == whole[0] and whole[1] == ALL)


def _listed(bill: Bill) -> dict[str, JSON]:
    return {"region": bill.region, "hour": bill.hour, "version": bill.version, "digest": bill.digest}


def _through(ledger: Ledger) -> dict[str, str]:
    """Return the last hour of each region that is reconciled for good."""
    found: dict[str, str] = defaultdict(str)
    for event in ledger.stream(STREAM):
        for bill in _mappings(event.payload["bills"]) if event.type == RECONCILED else ():
            if bill["version"]:
                found[str(bill["region"])] = max(found[str(bill["region"])], str(bill["hour"]))
    return found


def _periods(events: Iterable[Event]) -> Iterator[Period]:
    """Yield what the periods that are over cost; an hour that goes on is no measure of what comes."""
    for event in events:
        if event.payload["final"]:
            begins, ends = (datetime.fromisoformat(str(event.payload[name])) for name in ("begins", "ends"))
            costs: dict[Place, Decimal] = defaultdict(Decimal)
            for part in _mappings(event.payload["parts"]):
                costs[str(part["currency"]), str(part["model"]), str(part["region"])] += Decimal(str(part["billed"]))
            yield Period(max(ends - begins, timedelta(seconds=1)), costs)


def _mappings(value: JSON) -> list[Mapping[str, JSON]]:
    assert isinstance(value, list)
    return value
