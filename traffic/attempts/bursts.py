"""Who was first: each caller's first bad and first slow attempt of a second, held until the second closes.

One caller who tries again and again makes errors that depend on one another, and a test that takes them for independent
rolls back healthy revisions. So of all that one caller (masked) meets in one second, at one edge, with one model and in
one class of traffic, the first counts as a burst, for the revision and region that it hit, and the others do not.

It is the first over **all** revisions and regions, not one for each: counted once per revision, a burst that hits both
would add one to each side, whatever the shares, and so be held against the revision with the smaller share, which is
the canary: false rollbacks. The first one falls to each revision as often as requests do.

The earliest end is the first. Where several end in one millisecond, their keys decide, which know nothing of revisions
(an order by digest would always favour the same one); between the tries of one request, the one where it was routed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from traffic.attempts.lines import Series


class Metric(StrEnum):
    """What is counted in bursts."""

    BAD = "bad"
    SLOW = "slow"


class First(NamedTuple):
    """An attempt as far as the order needs it; `elsewhere` where another place answered than the routed one."""

    end_ms: int
    key: str
    elsewhere: bool
    series: Series


class Burst(NamedTuple):
    """What counts once: for whom, and in which second."""

    second: int
    metric: Metric
    series: Series


Caller = tuple[Metric, str, str, str]


class Bursts:
    """The first attempts of the seconds that are still open, by metric, model, class of traffic and caller."""

    def __init__(self) -> None:
        self._firsts: dict[int, dict[Caller, First]] = {}

    def __len__(self) -> int:
        """Count the firsts held."""
        return sum(map(len, self._firsts.values()))

    def met(self, second: int, metric: Metric, caller: str, attempt: First) -> None:
        """Remember that a caller met this in a second, if nothing earlier is known."""
        firsts = self._firsts.setdefault(second, {})
        who = metric, attempt.series.model, attempt.series.traffic, caller
        known = firsts.get(who)
        if known is None or attempt < known:
            firsts[who] = attempt

    def settle(self, before: float = math.inf) -> Iterator[Burst]:
        """Give up the bursts of the seconds before that one; of all without one."""
        for second in [second for second in self._firsts if second < before]:
            for (metric, *_), first in self._firsts.pop(second).items():
                yield Burst(second, metric, first.series)

    def to_rows(self) -> list[Any]:
        """Return everything held, to be written as JSON; callers are masked in it."""
        return [(second, who[0], who[3], first) for second, firsts in self._firsts.items() for who, first in firsts.items()]

    @classmethod
    def from_rows(cls, rows: list[Any]) -> Bursts:
        """Read what `to_rows` gave."""
        held = cls()
        for second, metric, caller, (end_ms, key, elsewhere, series) in rows:
            held.met(second, Metric(metric), caller, First(end_ms, key, elsewhere, Series(*series)))
        return held
