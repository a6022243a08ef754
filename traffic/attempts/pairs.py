"""Answers of a shadow beside those of the revision that answered the caller, joined by a key that the edge itself made.

A mirrored request has the caller's request id but no connection, and an id alone is the caller's to choose: one who
sends the same again and again would have unlike requests compared. So the route that mirrors adds a key of its own
(`formats.PAIR_HEADER`), which both attempts' lines carry; a key under which two live answers came joins nothing more.

What has no other half yet waits for WAIT_MS, in chunks of one turn each: a chunk is written to disk once and deleted
whole, since at full load the answers of ten seconds are too many to be written anew four times a second. A live answer
stays when it was compared, for another shadow of the same request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from traffic.attempts.lines import LIVE, Attempt, Series
from traffic.attempts.terms import MILLION, Terms

WAIT_MS: Final = 10_000
MOST: Final = 20_000


class Live(NamedTuple):
    """What a caller was answered; `score` is in millionths of the declared range."""

    revision: str
    end_ms: int
    mark: str
    score: int | None


class Shadow(NamedTuple):
    """What a shadow answered; the mark is empty where it refused."""

    series: Series
    end_ms: int
    mark: str
    score: int | None


class Pair(NamedTuple):
    """Two answers to one request, by the end of the later one; `distance` is in millionths."""

    end_ms: int
    series: Series
    distance: int
    disagreed: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one turn left waiting, as JSON; `read_ms` is when, by the clock of the turn."""

    number: int
    read_ms: int
    rows: bytes


class _Keys(NamedTuple):
    """The keys of one chunk, to be dropped with it."""

    number: int
    read_ms: int
    lives: list[str]
    shadows: list[str]


class Pairs:
    """Answers that wait for their other half; a bounded part of the last seconds."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        # None: two answers came under one key, which therefore says nothing
        self._lives: dict[str, Live | None] = {}
        self._shadows: dict[str, list[Shadow]] = {}
        self._fresh = _Keys(0, 0, [], [])
        self._chunks: deque[_Keys] = deque()

    def __len__(self) -> int:
        """Count the keys held."""
        return len(self._lives) + len(self._shadows)

    @property
    def oldest(self) -> int:
        """The number of the oldest chunk that is still held; the next one's where there is none."""
        return self._chunks[0].number if self._chunks else self._fresh.number

    def meet(self, attempt: Attempt, terms: Terms) -> Iterator[Pair]:
        """Take an answer and yield the pairs that it makes: with answers of other revisions, the live one a success."""
        if attempt.answer is None or not attempt.join:
            return
        mark, score = attempt.answer.mark, terms.placed(attempt.answer.score)
        if attempt.served.traffic != LIVE:
            yield from self._meet_shadow(attempt.join, Shadow(attempt.served, attempt.end_ms, mark, score), terms)
        elif mark:
            yield from self._meet_live(attempt.join, Live(attempt.served.revision, attempt.end_ms, mark, score), terms)

    def _meet_shadow(self, key: str, shadow: Shadow, terms: Terms) -> Iterator[Pair]:
        if key in self._lives:
            yield from _pairs(self._lives[key], [shadow], terms)
        else:
            self._shadows.setdefault(key, []).append(shadow)
            self._fresh.shadows.append(key)

    def _meet_live(self, key: str, live: Live, terms: Terms) -> Iterator[Pair]:
        self._lives[key] = None if key in self._lives else live
        self._fresh.lives.append(key)
        yield from _pairs(live, self._shadows.pop(key, ()), terms)

    def close_chunk(self, now_ms: int) -> Chunk | None:
        """End a turn; return what it left waiting."""
        shadows = [key for key in dict.fromkeys(self._fresh.shadows) if key in self._shadows]
        keys = self._fresh._replace(read_ms=now_ms, lives=list(dict.fromkeys(self._fresh.lives)), shadows=shadows)
        if not keys.lives and not keys.shadows:
            return None
        self._chunks.append(keys)
        self._fresh = _Keys(keys.number + 1, 0, [], [])
        rows = [[(key, self._lives[key]) for key in keys.lives], [(key, self._shadows[key]) for key in shadows]]
        return Chunk(keys.number, now_ms, orjson.dumps(rows, default=list))

    def forget(self, now_ms: int) -> int:
        """Drop what has waited long enough or is too much; return how many answers of shadows had nothing beside them."""
        unpaired = 0
        # Chunks from the future of a clock that was set back would never grow old
        while self._chunks and (abs(now_ms - self._chunks[0].read_ms) > WAIT_MS or len(self) > self._most):
            gone = self._chunks.popleft()
            for key in gone.lives:
                self._lives.pop(key, None)
            unpaired += sum(len(self._shadows.pop(key, ())) for key in gone.shadows)
        return unpaired

    @classmethod
    def from_chunks(cls, chunks: Iterable[Chunk]) -> Pairs:
        """Read what turns left waiting."""
        held = cls()
        for chunk in chunks:
            lives, shadows = orjson.loads(chunk.rows)
            held._lives |= {key: Live(*row) if row else None for key, row in lives}
            held._shadows |= {key: [Shadow(Series(*row[0]), *row[1:]) for row in rows] for key, rows in shadows}
            held._chunks.append(_Keys(chunk.number, chunk.read_ms, [key for key, _ in lives], [key for key, _ in shadows]))
            held._fresh = _Keys(chunk.number + 1, 0, [], [])
        # A chunk is written once, so it may tell of shadows that met their live answer in a later turn
        held._shadows = {key: rows for key, rows in held._shadows.items() if key not in held._lives}
        return held


def _pairs(live: Live | None, shadows: Iterable[Shadow], terms: Terms) -> Iterator[Pair]:
    if live is None:
        return
    for shadow in shadows:
        if shadow.series.revision != live.revision:
            distance, disagreed = _compared(live, shadow, terms.tolerance)
            yield Pair(max(live.end_ms, shadow.end_ms), shadow.series, distance, disagreed)


def _compared(live: Live, shadow: Shadow, tolerance: float) -> tuple[int, bool]:
    """Return the distance and whether the answers disagree; unlike answers without scores are as far apart as can be."""
    alike = live.mark == shadow.mark
    if live.score is None or shadow.score is None:
        return (0 if alike else MILLION), not alike
    distance = abs(live.score - shadow.score)
    return distance, not alike and distance > tolerance * MILLION
