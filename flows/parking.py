"""Releases that wait for a person: nobody holds their model meanwhile, and no process waits with them."""

from __future__ import annotations

from datetime import datetime, timedelta

from fleet.phases import ReleasePhase
from flows.approvals import awaited, let_through
from flows.desires import Desire, desires, phase_of, release_stream, unfinished
from flows.house import House
from flows.orders import COMMANDED, fold


def to_tell(house: House, model: str) -> tuple[Desire, ...]:
    """Return the desires whose release has not ended and has something to do, oldest first."""
    return tuple(desire for desire in unfinished(house.ledger, model) if not parked(house, desire))


def parked(house: House, desire: Desire) -> bool:
    """Whether a release only waits for approval: too few gave it, its time is not up, and nothing newer is wanted."""
    declared = house.model(desire.model).approval
    if phase_of(house.ledger, desire.release) is not ReleasePhase.AWAITING_APPROVAL or not declared.required:
        return False
    if let_through(house.ledger.stream(release_stream(desire.release), "effect.completed")) is not None:
        return False
    orders, now = fold(house.ledger.stream(release_stream(desire.release), COMMANDED)), house.ledger.now()
    if orders.aborted is not None or orders.denied is not None or not awaited(declared, orders, now):
        return False
    until, newest = answerable_until(house, desire), desires(house.ledger, desire.model)[-1]
    return newest.release == desire.release and until is not None and now <= until


def answerable_until(house: House, desire: Desire) -> datetime | None:
    """Return until when a release that waits can be approved, None for one that does not wait."""
    entered = house.ledger.last(release_stream(desire.release), "phase.entered")
    if entered is None or entered.payload["phase"] != ReleasePhase.AWAITING_APPROVAL.value:
        return None
    return entered.at + timedelta(seconds=house.model(desire.model).approval.within_seconds)
