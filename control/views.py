"""What the doors show: releases and regions as plain typed values."""

from __future__ import annotations

import itertools
import json
from dataclasses import fields
from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fleet.canonical import canonical_json
from fleet.errors import ConvoyError
from fleet.phases import ReleasePhase
from flows import effects
from flows.desires import Desire, desires_in, model_stream, release_stream
from flows.journal import INTERRUPTED
from flows.lagging import REPLICATE
from flows.observed import JUDGED, OBSERVED
from flows.operating import Commanded
from flows.orders import COMMANDED, Order, fold
from registry.ledger import Event, Ledger


class View(BaseModel):
    """Frozen, as everything that is shown."""

    model_config = ConfigDict(frozen=True)


class PhaseView(View):
    """A phase that a release entered, when, and why."""

    phase: str
    at: datetime
    reasons: tuple[str, ...]


class OrderView(View):
    """A person's command as the ledger has it."""

    id: str
    command: str
    operator: str
    reason: str
    door: str
    at: datetime
    seconds: int
    digest: str | None

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return an order for people and machines."""
        told = {field.name: getattr(order, field.name) for field in fields(order)}
        return cls(**{**told, "command": order.command.value})


class CommandedView(View):
    """What became of a command; `says` is what happens next, `again` whether it had been given before."""

    release: str
    order: OrderView
    says: str
    again: bool

    @classmethod
    def of(cls, done: Commanded) -> Self:
        """Return what a door answers."""
        return cls(release=done.release, order=OrderView.of(done.order), says=done.says, again=done.again)


class ReleaseView(View):
    """One release: where it stands, why, how long each phase took (seconds), and its last evidence.

    `paused` is the command that holds it, `pending` are those that it has not obeyed yet.
    `copies` says by region what its copy took: bytes sent and read back, from where, and the border's price.
    """

    release: str
    model: str
    version: str
    why: str
    phase: str
    meaning: str
    reasons: tuple[str, ...]
    digest: str | None
    requested: datetime
    ended: datetime | None
    phases: tuple[PhaseView, ...]
    seconds: dict[str, float]
    canary: dict[str, JsonValue] | None
    counted: dict[str, JsonValue] | None
    paused: OrderView | None = None
    pending: tuple[OrderView, ...] = ()
    copies: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)


def release_view(ledger: Ledger, desire: Desire, requested: datetime) -> ReleaseView:
    """Return one release as its events tell it."""
    events = ledger.stream(release_stream(desire.release))
    phases = tuple(_phase(event) for event in events if event.type == "phase.entered")
    now = ReleasePhase(phases[-1].phase) if phases else ReleasePhase.REQUESTED
    packaged = _effect(events, effects.PACKAGE)
    judged = [event for event in events if event.type == JUDGED]
    orders = fold(events)
    return ReleaseView(
        release=desire.release,
        model=desire.model,
        version=desire.version,
        why=desire.why.value,
        phase=now.value,
        meaning=now.meaning,
        reasons=_interruption(events) or (phases[-1].reasons if phases else ()),
        digest=str(packaged["digest"]) if packaged else None,
        requested=requested,
        ended=phases[-1].at if now.terminal else None,
        phases=phases,
        seconds=_durations(requested, phases),
        canary=_verdict(judged[-1]) if judged else None,
        counted=_effect(events, effects.COUNT),
        paused=None if orders.paused is None or now.terminal else OrderView.of(orders.paused),
        copies=_copies(events),
        pending=() if now.terminal else tuple(map(OrderView.of, orders.pending)),
    )


def release_views(ledger: Ledger, model: str) -> tuple[ReleaseView, ...]:
    """Return every release of a model, oldest first."""
    # Read once: what is opened meanwhile would be in one reading and not in the other
    events = ledger.stream(model_stream(model))
    moments = {
        str(event.payload["release"]): event.at for event in events if event.type == "candidate.observed" and event.payload.get("release")
    }
    return tuple(release_view(ledger, desire, moments[desire.release]) for desire in desires_in(model, events))


def _interruption(events: tuple[Event, ...]) -> tuple[str, ...]:
    """Return why the last run left the release unfinished, until another one takes it up."""
    told_by_it = [event for event in events if event.type != COMMANDED]
    if not told_by_it or told_by_it[-1].type != INTERRUPTED:
        return ()
    told = told_by_it[-1].payload
    return (f"left unfinished for now: {ConvoyError(str(told['subject']), str(told['reason']), str(told['remedy']))}",)


def _phase(event: Event) -> PhaseView:
    reasons = event.payload.get("reasons", [])
    return PhaseView(phase=str(event.payload["phase"]), at=event.at, reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else ())


def _effect(events: tuple[Event, ...], key: str) -> dict[str, JsonValue] | None:
    found = [event for event in events if event.type == "effect.completed" and event.effect_key == key]
    return _json(found[-1]) if found else None


def _copies(events: tuple[Event, ...]) -> dict[str, dict[str, JsonValue]]:
    done = [event for event in events if event.type == "effect.completed" and (event.effect_key or "").startswith(REPLICATE)]
    return {str(event.payload["region"]): _json(event) for event in done}


def _json(event: Event) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = json.loads(canonical_json(event.payload))
    return found


def _verdict(event: Event) -> dict[str, JsonValue]:
    """Return a verdict without the counts it was made from, which are for judging it again."""
    return {name: value for name, value in _json(event).items() if name != OBSERVED}


def _durations(requested: datetime, phases: tuple[PhaseView, ...]) -> dict[str, float]:
    """Return how long each phase but the last lasted; a release waits in `requested` until it is first picked up.

    None lasted less than nothing, though the clock may have been set back.
    """
    moments = [(ReleasePhase.REQUESTED.value, requested), *((phase.phase, phase.at) for phase in phases)]
    lasted: dict[str, float] = {}
    for (name, began), (_, ended) in itertools.pairwise(moments):
        lasted[name] = round(lasted.get(name, 0.0) + max(0.0, (ended - began).total_seconds()), 3)
    return lasted
