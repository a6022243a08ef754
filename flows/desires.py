"""What is wanted: each model's desires, as the ledger saw the alias `candidate` move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from fleet.errors import Busy
from fleet.phases import ReleasePhase
from registry.ledger import Event, Ledger, NewEvent

CANDIDATE = "candidate"
CHAMPION = "champion"
ROLLBACK_REQUEST_HOLDS = timedelta(minutes=10)


class Why(StrEnum):
    """What opened a desire."""

    ALIAS = "alias"
    AGAIN = "again"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Desire:
    """Somebody wants a version of a model served; one release answers it."""

    release: str
    model: str
    version: str
    why: Why


def model_stream(model: str) -> str:
    """Return the ledger stream of a model."""
    return f"model/{model}"


def release_stream(release: str) -> str:
    """Return the ledger stream of a release."""
    return f"release/{release}"


def desires(ledger: Ledger, model: str) -> tuple[Desire, ...]:
    """Return every desire that a model ever had, oldest first."""
    return _desires(model, ledger.stream(model_stream(model)))


def phase_of(ledger: Ledger, release: str) -> ReleasePhase:
    """Return where a release stands: the fold of its events."""
    entered = ledger.last(release_stream(release), "phase.entered")
    return ReleasePhase(str(entered.payload["phase"])) if entered else ReleasePhase.REQUESTED


def unfinished(ledger: Ledger, model: str) -> tuple[Desire, ...]:
    """Return the desires whose release has not ended, oldest first."""
    return tuple(desire for desire in desires(ledger, model) if not phase_of(ledger, desire.release).terminal)


def observe_candidate(ledger: Ledger, model: str, version: str | None, actor: str) -> Desire | None:
    """Record where the alias `candidate` points; a move opens a desire, which is returned.

    Seeing the same version again opens nothing, so a version that was rejected is not tried every minute.
    """
    for _ in range(5):
        events = ledger.stream(model_stream(model))
        if _last_seen(events) == version:
            return None
        payload: dict[str, str | None] = {"version": version}
        if version is not None:
            payload |= {"release": _next_release(model, events), "why": _why(events, version, ledger)}
        try:
            ledger.append(NewEvent(model_stream(model), "candidate.observed", payload, actor, model=model), expected=_position(events))
        except Busy:
            continue
        return desires(ledger, model)[-1] if version is not None else None
    raise Busy(f"model '{model}'", "its stream of events moves faster than it can be read", "Try again.")


def ask_again(ledger: Ledger, model: str, version: str, actor: str) -> Desire:
    """Open a desire for the version that `candidate` already names."""
    events = ledger.stream(model_stream(model))
    payload = {"version": version, "release": _next_release(model, events), "why": Why.AGAIN.value}
    ledger.append(NewEvent(model_stream(model), "candidate.observed", payload, actor, model=model), expected=_position(events))
    return desires(ledger, model)[-1]


def ask_rollback(ledger: Ledger, model: str, version: str, actor: str) -> None:
    """Say that the next move of `candidate` to this version is a rollback to a revision that was stable before."""
    ledger.append(NewEvent(model_stream(model), "rollback.requested", {"version": version}, actor, model=model))


def _desires(model: str, events: Sequence[Event]) -> tuple[Desire, ...]:
    return tuple(
        Desire(str(event.payload["release"]), model, str(event.payload["version"]), Why(str(event.payload["why"])))
        for event in events
        if event.type == "candidate.observed" and event.payload["version"] is not None
    )


def _last_seen(events: Sequence[Event]) -> str | None:
    seen = [event.payload["version"] for event in events if event.type == "candidate.observed"]
    return str(seen[-1]) if seen and seen[-1] is not None else None


def _next_release(model: str, events: Sequence[Event]) -> str:
    return f"{model}-{len(_desires(model, events)) + 1}"


def _position(events: Sequence[Event]) -> int:
    return events[-1].stream_seq if events else 0


def _why(events: Sequence[Event], version: str, ledger: Ledger) -> str:
    last = events[-1] if events else None
    asked = last is not None and last.type == "rollback.requested" and last.payload["version"] == version
    fresh = asked and last is not None and ledger.now() - last.at < ROLLBACK_REQUEST_HOLDS
    return (Why.ROLLBACK if fresh else Why.ALIAS).value
