"""From what fleet.yaml says of a model's traffic to the rules of its routing table."""

from __future__ import annotations

from fleet.declared import Fleet
from fleet.declared_traffic import RequestLimits, StickyBy
from fleet.reading import model_of
from traffic.rules import Limits, Residency, Rules, Sticky


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
    )


def _sticky(by: StickyBy) -> Sticky:
    return Sticky("header", by.header) if by.header is not None else Sticky("cookie", by.cookie or "")


def _limits(limits: RequestLimits) -> Limits:
    return Limits(limits.requests, limits.requests if limits.pending is None else limits.pending)
