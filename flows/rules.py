"""From what fleet.yaml says of a model's traffic to the rules of its routing table."""

from __future__ import annotations

from decimal import Decimal

from fleet.declared import Fleet, Model
from fleet.declared_traffic import RegionChoice, RequestLimits, StickyBy
from fleet.reading import model_of
from traffic.rules import Choice, Limits, Price, Residency, Rules, Sticky


def rules_of(fleet: Fleet, name: str) -> Rules:
    """Return the rules that hold for all requests to a model."""
    model = model_of(fleet, name)
    declared, jurisdictions = model.traffic, fleet.jurisdictions(model)
    residency = declared.residency
    marks = residency.marks if residency else ()
    return Rules(
        pin_header=declared.pin_header,
        sticky=_sticky(declared.sticky) if declared.sticky else None,
        residency=tuple(Residency(mark, residency.regions(mark, jurisdictions)) for mark in marks if residency),
        unmarked=residency.unmarked if residency else None,
        limits=_limits(declared.limits) if declared.limits else None,
        choice=_choice(declared.choice, _prices(fleet, model) if declared.choice.price else ()) if declared.choice else None,
    )


def _sticky(by: StickyBy) -> Sticky:
    return Sticky("header", by.header) if by.header is not None else Sticky("cookie", by.cookie or "")


def _limits(limits: RequestLimits) -> Limits:
    return Limits(limits.requests, limits.requests if limits.pending is None else limits.pending)


def _choice(choice: RegionChoice, prices: tuple[Price, ...]) -> Choice:
    return Choice(
        latency=choice.latency,
        load=choice.load,
        price=choice.price,
        hysteresis=choice.hysteresis,
        seconds=choice.seconds,
        return_seconds=choice.return_seconds,
        floor_percent=choice.floor_percent,
        prices=prices,
    )


def _prices(fleet: Fleet, model: Model) -> tuple[Price, ...]:
    """Return what a request that takes as long as the SLO lets it costs in each region, in thousandths of the dearest."""
    seconds = Decimal(min(slo.latency_ms for slo in model.slo.values())) / 1000
    declared = {region: fleet.regions[region].prices for region in model.regions}
    amounts = {region: found.of_request(seconds) for region, found in declared.items() if found is not None}
    dearest = max(amounts.values(), default=Decimal(0))
    return tuple(Price(region, round(1000 * amount / dearest)) for region, amount in amounts.items() if dearest)
