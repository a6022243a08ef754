"""From lines to counts: a deterministic fold without files, clock or database.

An attempt is counted in the second in which it ended. Most lines are counted as they are read. Only what is unusual
is held until its second closes, so that attempt and request can meet in any order:

- an attempt that ended without code or flag is bad, unless the request's line says that the client left; one whose
  client left is no evidence either way (a hung revision must not look clean) and is counted apart, as `abandoned`;
- a request routed to a revision that no attempt ever touched is one bad attempt for that revision, in the region of
  the chosen cluster, unless its caller left or was refused by the edge itself (4xx) before any attempt was made;
- an answer cut off by the route's timeout has a clean attempt and a request marked so: its attempt turns bad.

Both lines must be read within the delay by which closing lags behind the clock; what comes later is counted in the
first open second and told in `Troubles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from traffic.attempts.lines import Attempt, Kind, Malformed, Mask, Request, Series, Unrouted, read_attempt, read_request
from traffic.attempts.pending import TOUCH_MS, Pending

AHEAD_MS: Final = 5_000
"""A line further ahead of the clock than this was written before the clock was set back."""
EARLY_MS: Final = 10
"""Start and duration are cut to milliseconds, so an attempt may seem to end a little after its request."""
FIRST_KEY: Final = b'{"caller":'
"""How each line begins: Envoy writes the keys in order. It cannot stand inside a value, where quotes are escaped."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Troubles:
    """What did not go as it should, since the counts began.

    `malformed` lines were not readable; `late` counts went into a later second than their own; `unjoined` attempts
    stayed unexplained and count as bad; `unrouted` requests failed before a cluster was chosen; `truncated` is how
    often a log shrank under us, losing an unknown number of lines.
    """

    malformed: int = 0
    late: int = 0
    unjoined: int = 0
    unrouted: int = 0
    truncated: int = 0


@dataclass(slots=True)
class Cell:
    """What is added to one series in one second."""

    attempts: int = 0
    bad: int = 0
    slow: int = 0
    abandoned: int = 0
    callers: int = 0


Tally = dict[tuple[int, Series], Cell]


@dataclass(slots=True)
class Fold:
    """Counts lines; `complete_to` is the first second that is still open.

    `slow_ms` gives a model's latency limit in milliseconds, `mask` hides callers, `most_pending` bounds the memory.
    """

    slow_ms: Callable[[str], float]
    mask: Mask
    complete_to: int = 0
    troubles: Troubles = field(default_factory=Troubles)
    pending: Pending = field(default_factory=Pending)
    most_pending: int = 20_000
    _now_ms: int = 0
    _tally: Tally = field(default_factory=dict)
    _callers: dict[tuple[int, Series], set[str]] = field(default_factory=dict)

    def read_attempts(self, lines: Iterable[bytes], now_ms: int) -> int:
        """Count lines of attempts.log; return the latest end among them, or 0."""
        self._now_ms, latest = now_ms, 0
        limits: dict[str, float] = {}
        for attempt in self._parsed(lines, read_attempt):
            latest = max(latest, attempt.end_ms)
            if isinstance(attempt, Attempt):
                model = attempt.served.model
                if model not in limits:
                    limits[model] = self.slow_ms(model)
                self._count_attempt(attempt, limits[model])
        return latest

    def read_requests(self, lines: Iterable[bytes], now_ms: int) -> int:
        """Count lines of access.log; return the latest end among them, or 0."""
        self._now_ms, latest = now_ms, 0
        for request in self._parsed(lines, read_request):
            latest = max(latest, request.end_ms)
            if isinstance(request, Request):
                self.pending.hold_request(request)
            elif isinstance(request, Unrouted) and request.failed:
                self.trouble(unrouted=1)
        return latest

    def close(self, until_ms: int, now_ms: int) -> Tally:
        """Decide what ended before `until_ms`, complete the seconds before it, and hand over what was counted."""
        self._now_ms = now_ms
        everything = len(self.pending) > self.most_pending

        def due(end_ms: int, early: int = 0) -> bool:
            return everything or end_ms < until_ms + early or end_ms > now_ms + AHEAD_MS

        for attempt, its_request in self.pending.take_unclear(lambda end_ms: due(end_ms, EARLY_MS)):
            self._decide_attempt(attempt, its_request)
        for request, touched in self.pending.take_requests(due):
            self._decide_request(request, touched)
        self.pending.forget_touches(now_ms + 1 if everything else until_ms - TOUCH_MS)
        self.complete_to = max(self.complete_to, until_ms // 1000)
        self._callers = {place: seen for place, seen in self._callers.items() if place[0] >= self.complete_to}
        tally, self._tally = self._tally, {}
        return tally

    def _count_attempt(self, attempt: Attempt, limit: float) -> None:
        if attempt.broken:
            self.pending.touch(attempt)
        if attempt.kind is Kind.UNCLEAR:
            self.pending.hold_unclear(attempt)
            return
        bad = attempt.kind is Kind.BAD
        cell = self._cell(attempt.end_ms, attempt.served, attempt.caller if bad else "")
        cell.attempts += 1
        cell.bad += bad
        cell.slow += not attempt.broken and attempt.end_ms - attempt.start_ms > limit

    def _decide_attempt(self, attempt: Attempt, request: Request | None) -> None:
        if request is None:
            self.trouble(unjoined=1)
        left = request is not None and request.left
        cell = self._cell(attempt.end_ms, attempt.served, "" if left else attempt.caller)
        cell.abandoned += left
        cell.attempts += not left
        cell.bad += not left

    def _decide_request(self, request: Request, touched: bool) -> None:
        if request.cut_off and request.served is not None:
            self._cell(request.end_ms, request.served, request.caller).bad += 1
        if touched or (request.served is not None and request.served.revision == request.routed.revision):
            return
        if request.served is None and (request.left or 0 < request.code < 500):
            return
        cell = self._cell(request.end_ms, request.routed, request.caller)
        cell.attempts += 1
        cell.bad += 1

    def _cell(self, end_ms: int, series: Series, bad_caller: str) -> Cell:
        second = self._now_ms // 1000 if end_ms > self._now_ms + AHEAD_MS else end_ms // 1000
        open_second = max(second, self.complete_to)
        if open_second != end_ms // 1000:
            self.trouble(late=1)
        place = open_second, series
        cell = self._tally.get(place)
        if cell is None:
            cell = self._tally[place] = Cell()
        if bad_caller:
            seen = self._callers.setdefault(place, set())
            cell.callers += bad_caller not in seen
            seen.add(bad_caller)
        return cell

    def _parsed(self, lines: Iterable[bytes], read: Callable[[bytes, Mask], Parsed]) -> Iterator[Parsed]:
        for line in lines:
            try:
                yield read(line, self.mask)
            except Malformed:
                yield from self._salvaged(line, read)

    def _salvaged(self, line: bytes, read: Callable[[bytes, Mask], Parsed]) -> Iterator[Parsed]:
        """An Envoy that was killed while writing leaves half a line, and the next one goes on behind it."""
        torn, *whole = line.split(FIRST_KEY)
        self.trouble(malformed=1 if torn or not whole else 0)
        for rest in whole:
            try:
                yield read(FIRST_KEY + rest, self.mask)
            except Malformed:
                self.trouble(malformed=1)

    def trouble(self, *, malformed: int = 0, late: int = 0, unjoined: int = 0, unrouted: int = 0, truncated: int = 0) -> None:
        """Add to what is told in `troubles`."""
        old = self.troubles
        self.troubles = Troubles(
            old.malformed + malformed, old.late + late, old.unjoined + unjoined, old.unrouted + unrouted, old.truncated + truncated
        )
