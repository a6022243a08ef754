"""What is meant and what is seen for too long not the same: an incident, which the ledger has and people are shown."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from prefect import get_run_logger

from flows.desires import release_stream
from flows.work import Work
from monitoring.share import MeasuredShare

OPENED: Final = "incident.opened"
CLOSED: Final = "incident.closed"


@dataclass
class ShareWatch:
    """How long a share of the requests has been another one than was asked for; `since` tells by the steady clock."""

    since: float | None = None

    def look(self, work: Work, share: MeasuredShare, percent: int) -> str:
        """Return what is wrong in words once it has lasted too long, else nothing; records when that begins and ends."""
        now = time.monotonic()
        self.since = (self.since or now) if share.unlike else None
        lasted = 0.0 if self.since is None else now - self.since
        if lasted < work.house.settings.unlike_seconds:
            if self.since is None and open_incident(work):
                work.journal.record(CLOSED, {"incident": "share"})
            return ""
        seen = f"{percent} % were asked for, and {share.measured:.1%} of {share.attempts:,} requests seen"
        if not open_incident(work):
            get_run_logger().error("%s: incident: %s", work.desire.release, seen)
            work.journal.record(
                OPENED, {"incident": "share", "asked_percent": percent, "measured": f"{share.measured:.4f}", "reason": seen}
            )
        return f"Incident: for {lasted:.0f} s {seen}; nothing advances on that."


def open_incident(work: Work) -> str:
    """Return the reason of the release's incident that has not ended, empty when there is none."""
    events = work.house.ledger.stream(release_stream(work.desire.release), OPENED, CLOSED)
    return str(events[-1].payload["reason"]) if events and events[-1].type == OPENED else ""
