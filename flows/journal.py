"""A release's own book: phases entered and effects intended, done and read back."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.errors import Busy, ConvoyError, InputError
from fleet.phases import ReleasePhase, step
from flows.desires import Desire, phase_of, release_stream
from flows.effects import Effect
from registry.ledger import JSON, Event, Ledger, NewEvent

Payload = Mapping[str, JSON]

INTERRUPTED = "release.interrupted"
POINTS = ("before", "between", "acted", "after")
"""Before the intent; between intent and act; after the act, which nobody recorded yet; after its completion."""
TRIES = 20
_ORDER = tuple(ReleasePhase)


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """Where a rehearsal kills the controller: a point of an effect."""

    point: str
    effect: Effect

    @classmethod
    def parse(cls, text: str | None) -> CrashPoint | None:
        """Read 'POINT EFFECT'; raises InputError for an unknown point."""
        if not text:
            return None
        point, _, effect = text.partition(" ")
        if point not in POINTS or not effect:
            raise InputError("CONVOY_CRASH_AT", f"is {text!r}", f"Write one of {', '.join(POINTS)}, a space and an effect's key.")
        return cls(point, Effect(effect))


@dataclass(frozen=True, slots=True)
class Journal:
    """Writes one release's events under the epoch of its lease; an older epoch is refused by the ledger.

    `guard` raises when the lease is not ours any more; it is asked right before each act, for the world outside
    cannot refuse an epoch.
    """

    ledger: Ledger
    desire: Desire
    epoch: int
    actor: str
    crash: CrashPoint | None = None
    guard: Callable[[], None] = lambda: None

    @property
    def phase(self) -> ReleasePhase:
        """Where the release stands now."""
        return phase_of(self.ledger, self.desire.release)

    def enter(self, phase: ReleasePhase, *reasons: str, behind: int | None = None) -> None:
        """Enter a phase; a phase that the release has already passed is left alone, so the story can be told again.

        `behind` is the position in the release's stream that it must follow; raises Busy when somebody wrote meanwhile.
        """
        now = self.phase
        passed = not (now.terminal or phase.terminal or phase is ReleasePhase.ROLLING_BACK) and _ORDER.index(now) > _ORDER.index(phase)
        if now is phase or passed:
            return
        told: Payload = {"phase": step(now, phase).value, "from": now.value, "reasons": list(reasons)}
        self.ledger.append(self._event("phase.entered", told), expected=behind)

    def enter_unless(self, check: Callable[[], None], phase: ReleasePhase, *reasons: str) -> None:
        """Enter a phase from which nothing turns back unless `check` raises: no order of a person gets in between."""
        for _ in range(TRIES):
            position = self.ledger.position(release_stream(self.desire.release))
            check()
            try:
                return self.enter(phase, *reasons, behind=position)
            except Busy:
                continue
        raise Busy(self.desire.release, "its stream of events moves faster than it can be read", "It goes on by itself.")

    def record(self, kind: str, payload: Payload, intent: str | None = None, effect: str | None = None) -> Event:
        """Append one event to the release's stream."""
        return self.ledger.append(self._event(kind, payload, intent, effect))

    def _event(self, kind: str, payload: Payload, intent: str | None = None, effect: str | None = None) -> NewEvent:
        return NewEvent(
            release_stream(self.desire.release),
            kind,
            dict(payload),
            self.actor,
            epoch=self.epoch,
            intent_id=intent,
            effect_key=effect,
            model=self.desire.model,
        )

    def effect(self, key: Effect, act: Callable[[], Payload], **intended: JSON) -> Payload:
        """Do something to the world once: intent, act, read-back, completion.

        `act` is idempotent and returns what it read back. A completed effect is not repeated: its result is returned
        from the ledger. One that was only intended is done again under the same intent.
        """
        completed = self._last(key, "effect.completed")
        if completed is not None:
            return completed.payload
        self._reach("before", key)
        intent = self._last(key, "effect.intended") or self.record("effect.intended", intended, intent=uuid.uuid4().hex, effect=key)
        self._reach("between", key)
        self.guard()
        result = act()
        self._reach("acted", key)
        self.record("effect.completed", result, intent=intent.intent_id, effect=key)
        self._reach("after", key)
        return result

    def interrupted(self, problem: ConvoyError) -> None:
        """Record why a run leaves the release unfinished; it goes on in another one."""
        self.record(INTERRUPTED, {"subject": problem.subject, "reason": problem.reason, "remedy": problem.remedy})

    def completed(self, key: Effect) -> bool:
        """Whether an effect was done and read back."""
        return self._last(key, "effect.completed") is not None

    def events(self) -> tuple[Event, ...]:
        """Return the release's events so far."""
        return self.ledger.stream(release_stream(self.desire.release))

    def _last(self, key: Effect, kind: str) -> Event | None:
        found = [event for event in self.events() if event.type == kind and event.effect_key == key]
        return found[-1] if found else None

    def _reach(self, point: str, key: Effect) -> None:
        if self.crash is not None and self.crash == CrashPoint(point, key):
            os.kill(os.getpid(), signal.SIGKILL)
