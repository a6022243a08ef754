"""A drill's own book: what was intended, broken, measured, mended, and how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from registry.ledger import JSON, Event, Ledger, NewEvent

PREFIX = "drill/"
STARTED, BROKEN, MEASURED, MENDED, ENDED = (f"drill.{word}" for word in ("started", "broken", "measured", "mended", "ended"))


@dataclass(slots=True)
class DrillJournal:
    """Writes one drill's events; raises Busy as soon as anybody else wrote to the region's stream meanwhile.

    So a drill that was paused and taken up by somebody else writes no more.
    """

    ledger: Ledger
    region: str
    drill: str
    actor: str
    intent: str | None
    position: int

    @classmethod
    def begin(cls, ledger: Ledger, region: str, actor: str, intended: Mapping[str, JSON]) -> Self:
        """Write a drill's intent, which comes before its first act."""
        events = ledger.stream(drill_stream(region))
        number = sum(event.type == STARTED for event in events) + 1
        journal = cls(ledger, region, f"{region}-drill-{number}", actor, uuid.uuid4().hex, len(events))
        journal.record(STARTED, intended)
        return journal

    @classmethod
    def of(cls, ledger: Ledger, started: Event, region: str, actor: str) -> Self:
        """Go on with a drill that somebody else left."""
        position = len(ledger.stream(drill_stream(region)))
        return cls(ledger, region, str(started.payload["drill"]), actor, started.intent_id, position)

    def record(self, kind: str, payload: Mapping[str, JSON]) -> None:
        """Append one event behind the last one that this journal knows."""
        event = NewEvent(drill_stream(self.region), kind, {"drill": self.drill, **payload}, self.actor, intent_id=self.intent)
        self.position = self.ledger.append(event, expected=self.position).stream_seq


def drill_stream(region: str) -> str:
    """Return the ledger stream of a region's drills."""
    return f"{PREFIX}{region}"


def drilled_regions(ledger: Ledger) -> tuple[str, ...]:
    """Return the regions that were ever drilled."""
    return tuple(stream.removeprefix(PREFIX) for stream in ledger.streams(PREFIX))


def open_drill(ledger: Ledger, region: str) -> Event | None:
    """Return the intent of a region's drill that has not ended, None when there is none."""
    started, ended = ledger.last(drill_stream(region), STARTED), ledger.last(drill_stream(region), ENDED)
    return started if started is not None and (ended is None or ended.seq < started.seq) else None


def last_drilled(ledger: Ledger, region: str) -> datetime | None:
    """Return when a region's last drill ended, None before the first."""
    ended = ledger.last(drill_stream(region), ENDED)
    return ended.at if ended is not None else None
