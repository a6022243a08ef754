"""From lines to counts: a deterministic fold without files, clock or database.

An attempt is counted in the second in which it ended. Most lines are counted as they are read. Only what is unusual
is held until its second closes, so that attempt and request can meet in any order:

- an attempt that ended without code or flag is bad, unless the request's line says that the client left; one whose
  client left is no evidence either way (a hung revision must not look clean) and is counted apart, as `abandoned`;
- a request routed to a revision that no attempt ever touched is one bad attempt for that revision, in the region of
  the chosen cluster, unless its caller left or was refused by the edge itself (4xx) before any attempt was made;
- an answer cut off by the route's timeout has a clean attempt and a request marked so: its attempt turns bad.

What one caller meets again and again is counted once more as a burst (`bursts`), when the second closes; what a shadow
answered is held against the live answer (`pairs`), and a pair counts in the second in which the later of the two ended.

Both lines must be read within the delay by which closing lags behind the clock; what comes later is counted in the
first open second and told in `Troubles`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from traffic.attempts.bursts import Burst, Lot, Metric
from traffic.attempts.lines import Attempt, Kind, Malformed, Mask, Request, Series, Unrouted, read_attempt, read_request
from traffic.attempts.pairs import Chunk, Pair, Pairs
from traffic.attempts.pending import TOUCH_MS, Pending
from traffic.attempts.tallies import Cell, PairCell, PairTally, Tally, Troubles
from traffic.attempts.terms import Terms
from traffic.attempts.timings import Timings

AHEAD_MS: Final = 5_000
"""A line further ahead of the clock than this was written before the clock was set back."""
EARLY_MS: Final = 10
"""Start and duration are cut to milliseconds, so an attempt may seem to end a little after its request."""
BEGINNING: Final = re.compile(rb'(?=\{"(?:answer|caller)":)')
"""How each line begins: Envoy writes the keys in order. It cannot stand inside a value, where quotes are escaped."""

Parsed = TypeVar("Parsed")


@dataclass(slots=True)
class Fold:
    """Counts lines; `complete_to` is the first second that is still open.

    `terms` says by what a model is counted, `mask` hides callers, `most_pending` bounds the memory. `timings` hears how
    long each attempt took.
    """

    terms: Callable[[str], Terms]
    mask: Mask
    complete_to: int = 0
    troubles: Troubles = field(default_factory=Troubles)
    pending: Pending = field(default_factory=Pending)
    pairs: Pairs = field(default_factory=Pairs)
    most_pending: int = 20_000
    timings: Timings = field(default_factory=Timings)
    _now_ms: int = 0
    _tally: Tally = field(default_factory=dict)
    _pair_tally: PairTally = field(default_factory=dict)

    def read_attempts(self, lines: Iterable[bytes], now_ms: int) -> int:
        """Count lines of attempts.log; return the latest end among them, or 0."""
        self._now_ms, latest = now_ms, 0
        terms = _Asked(self.terms)
        for attempt in self._parsed(lines, partial(read_attempt, mask=self.mask, slow_ms=terms.slow_ms)):
            latest = max(latest, attempt.end_ms)
            if isinstance(attempt, Attempt):
                self._count_attempt(attempt, terms.of(attempt.served.model))
        return latest

    def read_requests(self, lines: Iterable[bytes], now_ms: int) -> int:
        """Count lines of access.log; return the latest end among them, or 0."""
        self._now_ms, latest = now_ms, 0
        for request in self._parsed(lines, partial(read_request, mask=self.mask)):
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
        for burst in self.pending.bursts.settle() if everything else self.pending.bursts.settle(self.complete_to):
            self._count_burst(burst)
        tally, self._tally = self._tally, {}
        return tally

    def take_pairs(self, now_ms: int) -> tuple[PairTally, Chunk | None]:
        """Hand over the pairs that were counted, and the answers that were read without their other half."""
        chunk = self.pairs.close_chunk(now_ms)
        self.trouble(unpaired=self.pairs.forget(now_ms))
        tally, self._pair_tally = self._pair_tally, {}
        return tally, chunk

    def _count_attempt(self, attempt: Attempt, terms: Terms) -> None:
        if attempt.broken:
            self.pending.touch(attempt)
        if attempt.kind is Kind.UNCLEAR:
            self.pending.hold_unclear(attempt)
            return
        self.timings.met(attempt, terms.slow_ms, self._now_ms)
        second = self._second(attempt.end_ms)
        cell = self._cell(second, attempt.served)
        cell.attempts += 1
        cell.stand_ins += attempt.served != attempt.routed
        cell.last_ms = max(cell.last_ms, attempt.end_ms)
        cell.slow += attempt.slow
        if attempt.slow:
            self._met(second, Metric.SLOW, attempt.caller, _lot(attempt))
        if attempt.kind is Kind.BAD:
            self._count_bad(second, attempt.caller, _lot(attempt))
        if attempt.answer is not None:
            self._count_answer(cell, attempt, terms)

    def _count_answer(self, cell: Cell, attempt: Attempt, terms: Terms) -> None:
        score = terms.placed(attempt.answer.score) if attempt.answer else None
        if score is not None:
            cell.scored += 1
            cell.score_sum += score
        for pair in self.pairs.meet(attempt, terms):
            self._count_pair(pair)

    def _decide_attempt(self, attempt: Attempt, request: Request | None) -> None:
        if request is None:
            self.trouble(unjoined=1)
        second = self._second(attempt.end_ms)
        cell = self._cell(second, attempt.served)
        if request is not None and request.left:
            cell.abandoned += 1
            return
        self.timings.met(attempt, self.terms(attempt.served.model).slow_ms, self._now_ms)
        cell.attempts += 1
        cell.stand_ins += attempt.served != attempt.routed
        self._count_bad(second, attempt.caller, _lot(attempt))

    def _decide_request(self, request: Request, touched: bool) -> None:
        if request.cut_off and request.served is not None:
            self._count_bad(self._second(request.end_ms), request.caller, Lot.of(request.key, request.routed, request.served))
        if touched or (request.served is not None and request.served.revision == request.routed.revision):
            return
        if request.served is None and (request.left or 0 < request.code < 500):
            return
        second = self._second(request.end_ms)
        self._cell(second, request.routed).attempts += 1
        self._count_bad(second, request.caller, Lot.of(request.key, request.routed, request.routed))

    def _count_bad(self, second: int, caller: str, lot: Lot) -> None:
        self._cell(second, lot.series).bad += 1
        self._met(second, Metric.BAD, caller, lot)

    def _met(self, second: int, metric: Metric, caller: str, lot: Lot) -> None:
        if caller:
            self.pending.bursts.met(second, metric, caller, lot)
        else:
            # Nobody knows whose it is, so nobody can say that it is the same one's
            self._count_burst(Burst(second, metric, lot.series))

    def _count_burst(self, burst: Burst) -> None:
        cell = self._cell(burst.second, burst.series)
        cell.bad_bursts += burst.metric is Metric.BAD
        cell.slow_bursts += burst.metric is Metric.SLOW

    def _count_pair(self, pair: Pair) -> None:
        # Late or not was told of the attempt itself
        place = max(min(pair.end_ms, self._now_ms) // 1000, self.complete_to), pair.series
        cell = self._pair_tally.setdefault(place, PairCell())
        cell.pairs += 1
        cell.disagreed += pair.disagreed
        cell.distance_sum += pair.distance

    def _second(self, end_ms: int) -> int:
        """Return the open second in which something counts, and tell where it is not its own."""
        second = self._now_ms // 1000 if end_ms > self._now_ms + AHEAD_MS else end_ms // 1000
        open_second = max(second, self.complete_to)
        if open_second != end_ms // 1000:
            self.trouble(late=1)
        return open_second

    def _cell(self, second: int, series: Series) -> Cell:
        place = second, series
        cell = self._tally.get(place)
        if cell is None:
            cell = self._tally[place] = Cell()
        return cell

    def _parsed(self, lines: Iterable[bytes], read: Callable[[bytes], Parsed]) -> Iterator[Parsed]:
        for line in lines:
            try:
                yield read(line)
            except Malformed:
                yield from self._salvaged(line, read)

    def _salvaged(self, line: bytes, read: Callable[[bytes], Parsed]) -> Iterator[Parsed]:
        """An Envoy that was killed while writing leaves half a line, and the next one goes on behind it."""
        torn, *whole = BEGINNING.split(line)
        self.trouble(malformed=1 if torn or not whole else 0)
        for rest in whole:
            try:
                yield read(rest)
            except Malformed:
                self.trouble(malformed=1)

    def trouble(self, **more: int) -> None:
        """Add to what is told in `troubles`."""
        self.troubles = self.troubles.plus(**more)


def _lot(attempt: Attempt) -> Lot:
    return Lot.of(attempt.key, attempt.routed, attempt.served)


class _Asked:
    """Each model's terms, asked for once in a turn."""

    def __init__(self, terms: Callable[[str], Terms]) -> None:
        self._terms = terms
        self._known: dict[str, Terms] = {}

    def of(self, model: str) -> Terms:
        if model not in self._known:
            self._known[model] = self._terms(model)
        return self._known[model]

    def slow_ms(self, model: str) -> float:
        return self.of(model).slow_ms
