"""One for each burst: of what a caller meets in a second, one attempt is drawn when the second closes.

One caller who tries again and again makes errors that depend on one another, and a test that takes them for independent
rolls back healthy revisions. So of all bad (or slow) attempts that one caller (masked) meets in one second, at one edge,
with one model and in one class of traffic, one counts as a burst, for the revision and region that it hit.

It is one over **all** revisions and regions, not one for each: counted once per revision, a burst that hits both would
add one to each side, whatever the shares, and so be held against the revision with the smaller share, which is the
canary: false rollbacks.

Which one it is must not depend on the revisions either. The first to end would be the faster one's: of requests sent at
once a canary, having few to answer, ends first. The first to start would be the slower one's, which started longer before
its second. So a checksum of the request's key decides, which knows neither; an order by digest would always favour the
same one. Then the burst falls to each revision as often as requests do. It is the same in whatever order the lines are
read. Between the tries of one request it is the one where it was routed to: what stood in for it was not its choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple
from zlib import crc32

from traffic.attempts.lines import Series


class Metric(StrEnum):
    """What is counted in bursts."""

    BAD = "bad"
    SLOW = "slow"


class Lot(NamedTuple):
    """An attempt as far as the draw needs it: the lowest is drawn. `stand_in` where it was not routed to."""

    checksum: int
    key: str
    stand_in: bool
    series: Series

    @classmethod
    def of(cls, key: str, routed: Series, served: Series) -> Lot:
        """Return the lot of what a request met at a place."""
        return cls(crc32(key.encode()), key, served != routed, served)


class Burst(NamedTuple):
    """What counts once: for whom, and in which second."""

    second: int
    metric: Metric
    series: Series


Caller = tuple[Metric, str, str, str]


class Bursts:
    """What is drawn in the seconds that are still open, by metric, model, class of traffic and caller."""

    def __init__(self) -> None:
        self._drawn: dict[int, dict[Caller, Lot]] = {}

    def __len__(self) -> int:
        """Count the callers held."""
        return sum(map(len, self._drawn.values()))

    def met(self, second: int, metric: Metric, caller: str, lot: Lot) -> None:
        """Take part in the draw of a caller's second."""
        drawn = self._drawn.setdefault(second, {})
        who = metric, lot.series.model, lot.series.traffic, caller
        known = drawn.get(who)
        if known is None or lot < known:
            drawn[who] = lot

    def settle(self, before: float = math.inf) -> Iterator[Burst]:
        """Give up the bursts of the seconds before that one; of all without one."""
        for second in [second for second in self._drawn if second < before]:
            for (metric, *_), lot in self._drawn.pop(second).items():
                yield Burst(second, metric, lot.series)

    def to_rows(self) -> list[Any]:
        """Return everything held, to be written as JSON; callers are masked in it."""
        return [(second, who[0], who[3], lot) for second, drawn in self._drawn.items() for who, lot in drawn.items()]

    @classmethod
    def from_rows(cls, rows: list[Any]) -> Bursts:
        """Read what `to_rows` gave."""
        held = cls()
        for second, metric, caller, (checksum, key, stand_in, series) in rows:
            held.met(second, Metric(metric), caller, Lot(checksum, key, stand_in, Series(*series)))
        return held
