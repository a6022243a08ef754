"""What is wanted: each model's desires, as the ledger saw the alias `candidate` move.

A rollback is the one desire that is written before the alias moves: one append, so nobody who sees the move can take
it for an ordinary release. After a crash between the two the alias still names the version that is rolled back from;
an observer would open that version again and so supersede the rollback. Therefore the desire notes what the alias
named (`instead_of`), and until the alias was seen where the rollback wants it (`candidate.settled`) an alias that still
names the old version is no news, also once the release has ended, or the next observer would undo the rollback. An
observer that may set the alias does so then. A move to any other version is a move as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from fleet.errors import Busy, TransientError
from fleet.phases import ReleasePhase
from registry.ledger import JSON, Event, Ledger, NewEvent

CANDIDATE = "candidate"
CHAMPION = "champion"
OBSERVED = "candidate.observed"
SETTLED = "candidate.settled"
TRIES = 5


class Why(StrEnum):
    """What opened a desire."""

    ALIAS = "alias"
    AGAIN = "again"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Alias:
    """What the ledger knows of `candidate`: the version seen last, and that of a rollback which it has still to follow.

    `instead_of` is what it named when that rollback was asked for.
    """

    last_seen: str | None = None
    owed: str | None = None
    instead_of: str | None = None

    def opens(self, version: str | None) -> bool:
        """Whether a release begins once somebody observes that the alias names a version."""
        followed = self.owed is not None and version in (self.owed, self.instead_of)
        return version is not None and not followed and version != self.last_seen


UNSEEN_YET = Alias()


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
    return desires_in(model, ledger.stream(model_stream(model)))


def desires_in(model: str, events: Sequence[Event]) -> tuple[Desire, ...]:
    """Return the desires that a model's events open, oldest first."""
    return tuple(_desire(model, event.payload) for event in events if event.type == OBSERVED and event.payload["version"] is not None)


def candidate_in(events: Sequence[Event]) -> Alias:
    """Return what a model's events know of the alias `candidate`."""
    owed = _owed(events)
    if owed is None:
        return Alias(_last_seen(events))
    before = owed.payload["instead_of"]
    return Alias(_last_seen(events), str(owed.payload["version"]), None if before is None else str(before))


def asked_by(ledger: Ledger, desire: Desire) -> str:
    """Return who opened a desire, as the ledger names actors; nobody where it has no such event."""
    opened = (event for event in ledger.stream(model_stream(desire.model)) if event.type == OBSERVED)
    return next((event.actor for event in opened if event.payload.get("release") == desire.release), "")


def phase_of(ledger: Ledger, release: str) -> ReleasePhase:
    """Return where a release stands: the fold of its events."""
    entered = ledger.last(release_stream(release), "phase.entered")
    return ReleasePhase(str(entered.payload["phase"])) if entered else ReleasePhase.REQUESTED


def unfinished(ledger: Ledger, model: str) -> tuple[Desire, ...]:
    """Return the desires whose release has not ended, oldest first."""
    return tuple(desire for desire in desires(ledger, model) if not phase_of(ledger, desire.release).terminal)


def observe_candidate(
    ledger: Ledger,
    model: str,
    candidate: str | Callable[[], str | None] | None,
    actor: str,
    settle: Callable[[str], object] | None = None,
) -> Desire | None:
    """Record where the alias `candidate` points; a move opens a desire, which is returned.

    `candidate` is the version that the alias names, or what reads it: then a reader that was overtaken reads again
    instead of recording what is past. `settle` sets the alias to the version of a rollback that was cut off before it
    could. Seeing the same version again opens nothing, so a version that was rejected is not tried every minute.
    Raises Busy when the model's stream moves faster than it can be read.
    """
    for _ in range(TRIES):
        # The position is read before the alias: an append that it lets through follows everything the reader could not see.
        events = ledger.stream(model_stream(model))
        version = candidate() if callable(candidate) else candidate
        owed = _owed(events)
        if owed is not None and version == owed.payload["instead_of"]:
            if settle is None:
                return None
            version = str(owed.payload["version"])
            settle(version)
        followed = owed is not None and version == owed.payload["version"]
        if not followed and version == _last_seen(events):
            return None
        opens = version is not None and not followed
        payload: dict[str, JSON] = _wish(model, events, version, Why.ALIAS) if version is not None and opens else {"version": version}
        if _appended(ledger, model, SETTLED if followed else OBSERVED, payload, actor, events):
            return _desire(model, payload) if opens else None
    raise _too_fast(model)


def ask_again(ledger: Ledger, model: str, version: str, actor: str) -> Desire:
    """Open a desire for the version that `candidate` already names; while one for it is unfinished, return that one."""
    for _ in range(TRIES):
        events = ledger.stream(model_stream(model))
        running = _running(ledger, model, events)
        if running is not None and running.version == version:
            return running
        payload = _wish(model, events, version, Why.AGAIN)
        if _appended(ledger, model, OBSERVED, payload, actor, events):
            return _desire(model, payload)
    raise _too_fast(model)


def open_rollback(ledger: Ledger, model: str, version: str, read: Callable[[], str | None], actor: str) -> Desire:
    """Open the desire for a rollback before the alias moves, whatever `candidate` names; return a running one to it instead.

    `read` tells what the alias names now; while it cannot, what the ledger last saw counts. A move that nobody saw
    is then a move as ever, once it is seen.
    """
    for _ in range(TRIES):
        events = ledger.stream(model_stream(model))
        named = _named(read, events)
        running, owed = _running(ledger, model, events), _owed(events)
        unmoved = named == version or (owed is not None and named == owed.payload["instead_of"])
        if running is not None and running.why is Why.ROLLBACK and running.version == version and unmoved:
            return running
        payload = _wish(model, events, version, Why.ROLLBACK)
        if named != version:
            payload["instead_of"] = named
        if _appended(ledger, model, OBSERVED, payload, actor, events):
            return _desire(model, payload)
    raise _too_fast(model)


def alias_owed(ledger: Ledger, model: str) -> str | None:
    """Return the version of a rollback that the alias `candidate` has still to follow, None when it owes nothing."""
    owed = _owed(ledger.stream(model_stream(model)))
    return None if owed is None else str(owed.payload["version"])


def _named(read: Callable[[], str | None], events: Sequence[Event]) -> str | None:
    """Return what the alias names, or what it named when it was last seen, for one who cannot read it now."""
    try:
        return read()
    except TransientError:
        owed = _owed(events)
        before = None if owed is None else owed.payload["instead_of"]
        return _last_seen(events) if owed is None else None if before is None else str(before)


def _desire(model: str, payload: Mapping[str, JSON]) -> Desire:
    return Desire(str(payload["release"]), model, str(payload["version"]), Why(str(payload["why"])))


def _running(ledger: Ledger, model: str, events: Sequence[Event]) -> Desire | None:
    """Return the newest desire unless its release has ended."""
    last = desires_in(model, events)[-1:]
    return last[0] if last and not phase_of(ledger, last[0].release).terminal else None


def _last_seen(events: Sequence[Event]) -> str | None:
    seen = [event.payload["version"] for event in events if event.type == OBSERVED]
    return str(seen[-1]) if seen and seen[-1] is not None else None


def _owed(events: Sequence[Event]) -> Event | None:
    """Return the rollback that the alias has not followed yet."""
    told = [event for event in events if event.type in (OBSERVED, SETTLED)]
    return told[-1] if told and "instead_of" in told[-1].payload else None


def _wish(model: str, events: Sequence[Event], version: str, why: Why) -> dict[str, JSON]:
    return {"version": version, "release": f"{model}-{len(desires_in(model, events)) + 1}", "why": why.value}


def _appended(ledger: Ledger, model: str, kind: str, payload: Mapping[str, JSON], actor: str, events: Sequence[Event]) -> bool:
    """Append behind the events that were read; False when somebody else wrote in between."""
    position = events[-1].stream_seq if events else 0
    try:
        ledger.append(NewEvent(model_stream(model), kind, dict(payload), actor, model=model), expected=position)
    except Busy:
        return False
    return True


def _too_fast(model: str) -> Busy:
    return Busy(f"model '{model}'", "its stream of events moves faster than it can be read", "Try again.")
