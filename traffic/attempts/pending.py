"""What waits: unclear attempts and unusual requests for their other half, which requests' attempts touched their revision, and bursts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import orjson

from traffic.attempts.bursts import Bursts
from traffic.attempts.lines import LIVE, Attempt, Kind, Request, Series

TOUCH_MS: Final = 60_000
"""How long a touch is kept for a request's line that never comes; longer than any route's timeout."""
SLACK_MS: Final = 2

Due = Callable[[int], bool]
Held = TypeVar("Held", Attempt, Request)


class Pending:
    """Attempts and requests by connection and request id, and callers' bursts; a bounded part of the last seconds."""

    def __init__(self) -> None:
        self._unclear: dict[str, list[Attempt]] = {}
        self._requests: dict[str, list[Request]] = {}
        self._touches: dict[str, list[int]] = {}
        self.bursts = Bursts()

    def __len__(self) -> int:
        """Count the keys and callers held."""
        return len(self._unclear) + len(self._requests) + len(self._touches) + len(self.bursts)

    def hold_unclear(self, attempt: Attempt) -> None:
        """Keep an attempt until its request tells how it ended."""
        self._unclear.setdefault(attempt.key, []).append(attempt)

    def hold_request(self, request: Request) -> None:
        """Keep a request until all its attempts have been read."""
        self._requests.setdefault(request.key, []).append(request)

    def touch(self, attempt: Attempt) -> None:
        """Remember that a request did reach the revision that it was routed to."""
        if attempt.served.revision == attempt.routed.revision and attempt.routed.traffic == LIVE:
            self._touches.setdefault(attempt.key, []).append(attempt.start_ms)

    def take_unclear(self, due: Due) -> Iterator[tuple[Attempt, Request | None]]:
        """Give up the attempts that are due, each with its request if that was read."""
        for attempt in _taken(self._unclear, due):
            yield attempt, next((found for found in self._requests.get(attempt.key, ()) if _within(attempt.start_ms, found)), None)

    def take_requests(self, due: Due) -> Iterator[tuple[Request, bool]]:
        """Give up the requests that are due, each with whether a broken attempt touched its revision."""
        for request in _taken(self._requests, due):
            starts = self._touches.pop(request.key, [])
            others = [start for start in starts if not _within(start, request)]
            if others:
                self._touches[request.key] = others
            yield request, len(others) < len(starts)

    def forget_touches(self, before_ms: int) -> None:
        """Drop the touches of attempts begun before then: their request's line can no longer come."""
        for key in [key for key, starts in self._touches.items() if starts[-1] < before_ms]:
            del self._touches[key]

    def to_json(self) -> bytes:
        """Write everything held; callers are masked in it."""
        return orjson.dumps([self._unclear, self._requests, self._touches, self.bursts.to_rows()], default=list)

    @classmethod
    def from_json(cls, text: bytes) -> Pending:
        """Read what `to_json` wrote, or that of an older Convoy, which held no bursts."""
        held = cls()
        unclear, requests, held._touches, *bursts = orjson.loads(text)
        held.bursts = Bursts.from_rows(bursts[0] if bursts else [])
        held._unclear = {key: [_attempt(row) for row in rows] for key, rows in unclear.items()}
        held._requests = {key: [_request(row) for row in rows] for key, rows in requests.items()}
        return held


def _taken(held: dict[str, list[Held]], due: Due) -> list[Held]:
    taken: list[Held] = []
    for key in list(held):
        kept: list[Held] = []
        for item in held[key]:
            (taken if due(item.end_ms) else kept).append(item)
        if kept:
            held[key] = kept
        else:
            del held[key]
    return taken


def _within(start_ms: int, request: Request) -> bool:
    # A client may use one id again over one connection: then the times tell its requests apart
    return request.start_ms - SLACK_MS <= start_ms <= request.end_ms + SLACK_MS


def _attempt(row: list[Any]) -> Attempt:
    read = Attempt(*row)
    return read._replace(routed=Series(*read.routed), served=Series(*read.served), kind=Kind(read.kind))


def _request(row: list[Any]) -> Request:
    read = Request(*row)
    return read._replace(routed=Series(*read.routed), served=Series(*read.served) if read.served else None)
