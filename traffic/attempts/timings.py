"""How long attempts took lately, per revision and region: what the choice of region goes by, kept in memory alone.

An answer counts with the time that it took. A refusal or an error does not, unless it took longer than the SLO's limit:
a region that fails quickly must not look quick, one that hangs must look slow.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Final

from traffic.attempts.lines import LIVE, REFUSED, Attempt, Kind

KEPT_SECONDS: Final = 60


@dataclass(slots=True)
class Spell:
    """What ended in one second or several: answers, the sum of their milliseconds and of its squares, and that of all attempts."""

    answers: int = 0
    sum_ms: int = 0
    squares: int = 0
    busy_ms: int = 0

    def add(self, other: Spell) -> None:
        """Take another's in."""
        self.answers += other.answers
        self.sum_ms += other.sum_ms
        self.squares += other.squares
        self.busy_ms += other.busy_ms


@dataclass(frozen=True, slots=True)
class Timed:
    """A revision in a region over some seconds: answers, their mean milliseconds with its standard error, attempts under way."""

    region: str
    answers: int
    mean_ms: float
    error_ms: float
    under_way: float


class Timings:
    """The last minute's attempts by second; written by one thread, read by others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spells: dict[int, dict[tuple[str, str, str], Spell]] = {}

    def met(self, attempt: Attempt, slow_ms: float, now_ms: int) -> None:
        """Take note of an attempt whose caller did not leave; only live traffic counts, where it was served."""
        served = attempt.served
        if served.traffic != LIVE:
            return
        took = attempt.end_ms - attempt.start_ms
        counts = took > slow_ms or (attempt.kind is Kind.ANSWERED and attempt.answer != REFUSED)
        second = min(attempt.end_ms, now_ms) // 1000
        with self._lock:
            if second not in self._spells:
                self._spells = {old: spells for old, spells in self._spells.items() if old > second - KEPT_SECONDS}
            spells = self._spells.setdefault(second, {})
            spell = spells.setdefault((served.model, served.revision, served.region), Spell())
            spell.add(Spell(1, took, took * took, took) if counts else Spell(busy_ms=took))

    def lately(self, model: str, revision: str, now: float, span: Span) -> tuple[Timed, ...]:
        """Return how a revision did in each region where it answered within the last minute."""
        with self._lock:
            regions = {region for spells in self._spells.values() for name, digest, region in spells if (name, digest) == (model, revision)}
            return tuple(self._timed((model, revision, region), now, span) for region in sorted(regions))

    def _timed(self, series: tuple[str, str, str], now: float, span: Span) -> Timed:
        whole, last, covered = Spell(), int(now), 0.0
        for back in range(KEPT_SECONDS):
            whole.add(self._spells.get(last - back, {}).get(series, NOTHING))
            covered = now - last + back
            if covered >= span.seconds and whole.answers >= span.answers:
                break
        mean = whole.sum_ms / whole.answers if whole.answers else 0.0
        spread = max(0.0, whole.squares / whole.answers - mean * mean) if whole.answers else 0.0
        error = math.sqrt(spread / (whole.answers - 1)) if whole.answers > 1 else math.inf
        return Timed(series[2], whole.answers, mean, error, whole.busy_ms / 1000 / covered if covered else 0.0)


@dataclass(frozen=True, slots=True)
class Span:
    """How far to look back: so many seconds, and on until there are so many answers, a minute at most."""

    seconds: float
    answers: int


NOTHING: Final = Spell()
