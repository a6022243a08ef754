"""The bills of all regions, and what they came to: reconciled, recorded and reported."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from clouds.billing import HOUR, Bill, BillSource
from clouds.local.files import private_folder, write_private
from clouds.targets import bills_of
from fleet.declared_region import Region
from fleet.errors import ConvoyError, InputError, IntegrityError, NotSupported, OperationFailed
from flows.costed import RECONCILED, STREAM, Recorded, entries, expected_rates, listing, reconciliations, recorded
from flows.house import House
from monitoring.costs.deviations import ALL, Comparison, Outcome, Place, plain
from monitoring.costs.reconciling import Reconciliation, reconcile
from monitoring.costs.splitting import per_thousand
from registry.ledger import JSON, Event, NewEvent

LOOKED_AT = timedelta(days=7)
"""How far back bills that were reconciled are looked at again: whether they are as they were, and whether more was measured."""
KEPT_REPORTS = 200
"""The ledger keeps all that stands in them."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The bills that are not reconciled yet, why a region has none, and what is wrong with those of others.

    Each of `groups` is reconciled by itself, and none is empty: closed hours first, the regions with the same hours together,
    a restated hour with the others of its event; then the hour that goes on.
    """

    groups: tuple[tuple[Bill, ...], ...]
    without: tuple[str, ...]
    problems: tuple[ConvoyError, ...] = ()


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
        return f"{sums or 'nothing'} from {span}, {len(found.deviations)} deviations over {found.threshold:.1%}" + (
            "" if self.final else ", so far"
        )


@dataclass(frozen=True, slots=True)
class Done:
    """What could be reconciled, and what is wrong with the rest."""

    settled: tuple[Settled, ...]
    problems: tuple[ConvoyError, ...]


def gather(house: House, now: datetime) -> Gathered:
    """Bring every region's bills up to date and return those that the ledger does not have.

    A region whose bill is bad is left out, and its problem told; the others go on.
    """
    events = reconciliations(house.ledger)
    known, without, problems = recorded(events), [], []
    plain_ones: dict[tuple[str, ...], list[Bill]] = defaultdict(list)
    groups: list[tuple[Bill, ...]] = []
    for name, region in house.fleet.regions.items():
        try:
            source = bills_of(region.target)(house.home, house.fleet.name)
            bills = _checked(source, name, region, now, events)
            groups += _restated(source, bills, known)
        except NotSupported as problem:
            without.append(str(problem))
        except (InputError, OperationFailed) as problem:
            problems.append(problem)
        else:
            without += [] if bills else [f"region '{name}': nothing was measured there, so it has no bill"]
            fresh = [bill for bill in bills if (name, bill.hour) not in known and not (bill.empty and not bill.closed)]
            for closed in (True, False):
                hours = tuple(bill.hour for bill in fresh if bill.closed is closed)
                plain_ones[str(closed), *hours] += [bill for bill in fresh if bill.closed is closed]
    groups += [tuple(bills) for bills in plain_ones.values() if bills]
    groups.sort(key=lambda bills: (not bills[0].closed, bills[0].hour))
    return Gathered(tuple(groups), tuple(without), tuple(problems))


def settle(house: House, bills: tuple[Bill, ...], actor: str) -> Settled:
    """Reconcile bills against the forecasts and record it; what the ledger has already is not recorded twice.

    Where a newer version of a recorded bill is among them, the event says which event it `restates`; forecasts go by the
    newest. Raises Busy when somebody else reconciled meanwhile.
    """
    events = reconciliations(house.ledger)
    known = recorded(events)
    fresh = tuple(bill for bill in bills if not _covered(bill, known))
    restated = [known[bill.region, bill.hour].event.seq for bill in fresh if (bill.region, bill.hour) in known]
    wanted = bills if restated else fresh or bills
    expected = expected_rates(declared_forecasts(house), events, {bill.region for bill in wanted})
    bounds = (min(bill.begins for bill in wanted), max(bill.ends for bill in wanted))
    found = reconcile([bill.file for bill in wanted], expected, house.fleet.costs.deviation, bounds)
    listed = listing(wanted)
    same = next((event for event in reversed(events) if event.payload["bills"] == listed), None)
    if not fresh or same is not None:
        return Settled(wanted, found, same or known[bills[0].region, bills[0].hour].event, new=False)
    payload = {"final": all(bill.closed for bill in wanted), "bills": listed, **summary(found)}
    if restated:
        payload["restates"] = max(restated)
    event = house.ledger.append(NewEvent(STREAM, RECONCILED, payload, actor), expected=len(events))
    return Settled(wanted, found, event, new=True)


def settle_apart(house: House, bills: tuple[Bill, ...], actor: str) -> Done:
    """Settle bills together; where one of them is bad, region by region, so that it holds up no other region's.

    An hour that somebody else closed meanwhile is theirs to record.
    """
    bills = tuple(bill for bill in bills if bill.closed or bill.file.exists())
    if not bills:
        return Done((), ())
    try:
        return Done((settle(house, bills, actor),), ())
    except (InputError, IntegrityError) as problem:
        regions = list(dict.fromkeys(bill.region for bill in bills))
        if len(regions) == 1:
            return Done((), (problem,))
    each = [settle_apart(house, tuple(bill for bill in bills if bill.region == region), actor) for region in regions]
    return Done(tuple(one for done in each for one in done.settled), tuple(one for done in each for one in done.problems))


def write_report(house: House, settled: Settled) -> Path:
    """Write what was recorded as JSON and return the file; the oldest reports go."""
    folder = private_folder(house.home.reports / "costs")
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
    unknown = not found.comparisons or any(told.outcome is Outcome.NO_FORECAST for told in found.comparisons if told.place[1] == ALL)
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


def _checked(source: BillSource, name: str, region: Region, now: datetime, events: Iterable[Event]) -> tuple[Bill, ...]:
    """Return a region's bills of the hours looked at, after those that were reconciled were held to the ledger's digests."""
    since = f"{now - LOOKED_AT:{HOUR}}"
    listed = [entry for event in events for entry in entries(event) if entry.region == name]
    for entry in listed:
        if entry.hour > since:
            source.kept(name, entry.hour, entry.version, entry.digest)
    return source.bills(name, region, now, min(since, max((entry.hour for entry in listed), default="")))


def _restated(source: BillSource, bills: Iterable[Bill], known: Mapping[tuple[str, str], Recorded]) -> Iterator[tuple[Bill, ...]]:
    """Yield, for each event that a newer version of a region's bill restates, all of its bills of that region."""
    newer = {bill.hour: bill for bill in bills if (found := known.get((bill.region, bill.hour))) and bill.version > found.version}
    events = {found.event.seq: (bill.region, found.event) for bill in newer.values() if (found := known[bill.region, bill.hour])}
    for region, event in events.values():
        listed = [entry for entry in entries(event) if entry.region == region]
        yield tuple(newer.get(one.hour) or source.kept(region, one.hour, one.version, one.digest) for one in listed)


def _covered(bill: Bill, known: Mapping[tuple[str, str], Recorded]) -> bool:
    """Say whether the ledger has this version of a bill, or one that came after it."""
    found = known.get((bill.region, bill.hour))
    return found is not None and bill.version <= found.version
