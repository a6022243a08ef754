"""The counts of one edge, and how far its logs were read, in one SQLite database: both move in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Final

import orjson

from fleet.errors import OperationFailed
from traffic.attempts.layout import VERSION, prepare
from traffic.attempts.pairs import Chunk
from traffic.attempts.tallies import PairTally, Tally, Troubles

_ADD_COUNTS: Final = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  attempts = attempts + excluded.attempts, bad = bad + excluded.bad, slow = slow + excluded.slow,
  abandoned = abandoned + excluded.abandoned, bad_bursts = bad_bursts + excluded.bad_bursts,
  slow_bursts = slow_bursts + excluded.slow_bursts, scored = scored + excluded.scored, score_sum = score_sum + excluded.score_sum,
  stand_ins = stand_ins + excluded.stand_ins, last_ms = MAX(last_ms, excluded.last_ms)
"""
_ADD_PAIRS: Final = """
INSERT INTO pairs VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  pairs = pairs + excluded.pairs, disagreed = disagreed + excluded.disagreed, distance_sum = distance_sum + excluded.distance_sum
"""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a log file was read; `head` recognises the file, `done` says that nothing will follow in it."""

    log: str
    inode: int
    offset: int
    head: bytes
    done: bool = False


@dataclass(frozen=True, slots=True)
class Saved:
    """What a fold needs to go on after a restart; `pending` is the JSON of what waits for its other half."""

    complete_to: int = 0
    troubles: Troubles = field(default_factory=Troubles)
    pending: bytes = b""


@dataclass(frozen=True, slots=True)
class Counted:
    """What one turn adds: counts, pairs, and the answers that wait; of those, what stands before `oldest` may go."""

    counts: Tally
    pairs: PairTally = field(default_factory=dict)
    waiting: Chunk | None = None
    oldest: int = 0


@dataclass(frozen=True, slots=True)
class SecondCount:
    """One series in one second, as stored: what AttemptCount tells, and `abandoned`, the attempts whose client left."""

    second: int
    revision: str
    region: str
    traffic: str
    attempts: int
    bad: int
    slow: int
    abandoned: int
    bad_bursts: int
    slow_bursts: int
    scored: int
    score_sum: int
    stand_ins: int
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class SecondPairs:
    """One shadow's pairs in one second, as stored."""

    second: int
    revision: str
    region: str
    pairs: int
    disagreed: int
    distance_sum: int


class CountStore:
    """Counts per second on disk; may be read from any thread while one writes."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        # One connection under one lock: a transaction is a few milliseconds, four times a second
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        found = prepare(self._database)
        if found != VERSION:
            raise OperationFailed(
                str(path), f"has layout {found}, this Convoy writes {VERSION}", "Move the file away; counting starts anew."
            )

    def load(self) -> Saved:
        """Return the state of the last commit."""
        with self._lock:
            row = self._database.execute("SELECT complete_to, troubles, pending FROM state").fetchone()
        return Saved(row[0], Troubles(**orjson.loads(row[1])), row[2]) if row else Saved()

    def marks(self) -> tuple[Mark, ...]:
        """Return how far each known file was read."""
        with self._lock:
            rows = self._database.execute("SELECT log, inode, offset, head, done FROM marks").fetchall()
        return tuple(Mark(log, inode, offset, head, bool(done)) for log, inode, offset, head, done in rows)

    def waiting(self) -> tuple[Chunk, ...]:
        """Return the answers that wait for their other half, oldest first."""
        with self._lock:
            rows = self._database.execute("SELECT number, read_ms, rows FROM waiting ORDER BY number").fetchall()
        return tuple(Chunk(*row) for row in rows)

    def commit(self, counted: Counted, saved: Saved, marks: Iterable[Mark]) -> None:
        """Add what was counted and replace state and marks, all or nothing."""
        counts = [
            (series.model, second, series.revision, series.region, series.traffic, *astuple(cell))
            for (second, series), cell in counted.counts.items()
        ]
        pairs = [(series.model, second, series.revision, series.region, *astuple(cell)) for (second, series), cell in counted.pairs.items()]
        waiting = [] if counted.waiting is None else [astuple(counted.waiting)]
        troubles = orjson.dumps(asdict(saved.troubles))
        files = [(mark.log, mark.inode, mark.offset, mark.head, mark.done) for mark in marks]
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_ADD_COUNTS, counts)
            self._database.executemany(_ADD_PAIRS, pairs)
            self._database.executemany("INSERT INTO waiting VALUES (?, ?, ?)", waiting)
            self._database.execute("DELETE FROM waiting WHERE number < ?", (counted.oldest,))
            self._database.execute("REPLACE INTO state VALUES (1, ?, ?, ?)", (saved.complete_to, troubles, saved.pending))
            self._database.execute("DELETE FROM marks")
            self._database.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", files)

    def counts(self, model: str, since: int, until: int) -> tuple[tuple[SecondCount, ...], int]:
        """Return a model's complete seconds in since <= second < until, and the first second that is not complete."""
        with self._lock:
            row = self._database.execute("SELECT complete_to FROM state").fetchone()
            complete_to = int(row[0]) if row else 0
            query = (
                "SELECT second, revision, region, traffic, attempts, bad, slow, abandoned, bad_bursts, slow_bursts, "
                "scored, score_sum, stand_ins, last_ms FROM counts "
                "WHERE model = ? AND second >= ? AND second < ? ORDER BY second, revision, region, traffic"
            )
            rows = self._database.execute(query, (model, since, min(until, complete_to))).fetchall()
        return tuple(SecondCount(*row) for row in rows), complete_to

    def pairs(self, model: str, since: int, until: int) -> tuple[SecondPairs, ...]:
        """Return the pairs of a model's shadows in since <= second < until, which must be complete."""
        query = (
            "SELECT second, revision, region, pairs, disagreed, distance_sum FROM pairs "
            "WHERE model = ? AND second >= ? AND second < ? ORDER BY second, revision, region"
        )
        with self._lock:
            rows = self._database.execute(query, (model, since, until)).fetchall()
        return tuple(SecondPairs(*row) for row in rows)

    def prune(self, before: int) -> None:
        """Forget the seconds before that one."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM counts WHERE second < ?", (before,))
            self._database.execute("DELETE FROM pairs WHERE second < ?", (before,))

    def flush(self) -> None:
        """Put what was committed on the disk itself, so that what it was counted from may be deleted."""
        with self._lock, closing(self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")) as answer:
            answer.fetchall()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()
