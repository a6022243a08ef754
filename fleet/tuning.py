"""Batch size and worker count by measurement: what was measured, and which of it is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fleet.canonical import canonical_json
from fleet.errors import OperationFailed

NEARLY = Decimal("0.95")
"""So large a part of the best throughput is as good: the fewer workers, and then the smaller batch, are taken."""

MOST = {"batch_rows": 1 << 20, "workers": 64}
"""What a service takes at most (bentos/service/settings.py)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place of the grid, and what a service set so answered: good answers a second, milliseconds, answers that failed."""

    batch_rows: int
    workers: int
    per_second: Decimal
    p50_ms: Decimal
    p99_ms: Decimal
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured of a revision: on which machine, over how many connections, and how slow p99 may be."""

    subject: str
    model: str
    machine: Mapping[str, Any]
    connections: int
    p99_limit_ms: int
    points: tuple[Point, ...]

    @property
    def chosen(self) -> Point:
        """The place that is taken; raises OperationFailed where every one of them failed requests."""
        return choose(self.points, self.p99_limit_ms)

    def to_bytes(self, at: str) -> bytes:
        """Return it as canonical JSON with the time of the measurement; figures as text."""
        chosen = self.chosen
        return canonical_json(
            {
                "subject": self.subject,
                "model": self.model,
                "at": at,
                "machine": dict(self.machine),
                "connections": self.connections,
                "p99_limit_ms": self.p99_limit_ms,
                "chosen": {"batch_rows": chosen.batch_rows, "workers": chosen.workers},
                "measured": [
                    {
                        "batch_rows": point.batch_rows,
                        "workers": point.workers,
                        "per_second": str(point.per_second),
                        "p50_ms": str(point.p50_ms),
                        "p99_ms": str(point.p99_ms),
                        "failed": point.failed,
                    }
                    for point in self.points
                ],
            }
        )


def when_tuned(data: bytes, subject: str) -> str:
    """Return when a revision was tuned, as a document beside it says; nothing where that is no tuning of this revision."""
    try:
        document = json.loads(data)
        chosen = document["chosen"]
        fits = all(type(chosen[name]) is int and 0 < chosen[name] <= most for name, most in MOST.items())
        fits &= document["subject"] == subject and set(document["machine"]) >= {"cpu", "cores"}
        return str(document["at"]) if fits else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def choose(points: Sequence[Point], p99_limit_ms: int) -> Point:
    """Return the place with the highest throughput among those whose p99 keeps the limit; pure.

    Where none keeps it, the one with the lowest p99 is taken. One that failed requests is never taken.
    """
    sound = [point for point in points if not point.failed and point.per_second > 0]
    if not sound:
        raise OperationFailed("the tuning", "every setting that was tried failed requests", "Look at the service's log; nothing was kept.")
    within = [point for point in sound if point.p99_ms <= p99_limit_ms]
    if not within:
        return min(sound, key=lambda point: point.p99_ms)
    best = max(point.per_second for point in within)
    return min((point for point in within if point.per_second >= NEARLY * best), key=lambda point: (point.workers, point.batch_rows))
