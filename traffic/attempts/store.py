"""The counts of one edge, and how far its logs were read, in one SQLite database: both move in one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import orjson

from fleet.errors import OperationFailed
from traffic.attempts.fold import Tally, Troubles

VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE counts (
  model TEXT, second INTEGER, revision TEXT, region TEXT, traffic TEXT,
  attempts INTEGER NOT NULL, bad INTEGER NOT NULL, slow INTEGER NOT NULL, abandoned INTEGER NOT NULL, callers INTEGER NOT NULL,
  PRIMARY KEY (model, second, revision, region, traffic)
) WITHOUT ROWID;
CREATE TABLE marks (log TEXT, inode INTEGER, offset INTEGER NOT NULL, head BLOB NOT NULL, done INTEGER NOT NULL, PRIMARY KEY (log, inode));
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), complete_to INTEGER NOT NULL, troubles BLOB NOT NULL, pending BLOB NOT NULL);
PRAGMA user_version = {VERSION};
"""
_ADD: Final = """
INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  attempts = attempts + excluded.attempts, bad = bad + excluded.bad, slow = slow + excluded.slow,
  abandoned = abandoned + excluded.abandoned, callers = callers + excluded.callers
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
class SecondCount:
    """One series in one second, as stored.

    Beside what AttemptCount tells: `abandoned`, the attempts whose client left, and `callers`, how many different callers
    got the bad answers (one that a restart falls between may be counted twice).
    """

    second: int
    revision: str
    region: str
    traffic: str
    attempts: int
    bad: int
    slow: int
    abandoned: int
    callers: int


class CountStore:
    """Counts per second on disk; may be read from any thread while one writes."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        # One connection under one lock: a transaction is a few milliseconds, four times a second
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        found = self._database.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif found != VERSION:
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

    def commit(self, tally: Tally, saved: Saved, marks: Iterable[Mark]) -> None:
        """Add the counts and replace state and marks, all or nothing."""
        added = [
            (
                series.model,
                second,
                series.revision,
                series.region,
                series.traffic,
                cell.attempts,
                cell.bad,
                cell.slow,
                cell.abandoned,
                cell.callers,
            )
            for (second, series), cell in tally.items()
        ]
        troubles = orjson.dumps(asdict(saved.troubles))
        files = [(mark.log, mark.inode, mark.offset, mark.head, mark.done) for mark in marks]
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(_ADD, added)
            self._database.execute("REPLACE INTO state VALUES (1, ?, ?, ?)", (saved.complete_to, troubles, saved.pending))
            self._database.execute("DELETE FROM marks")
            self._database.executemany("INSERT INTO marks VALUES (?, ?, ?, ?, ?)", files)

    def counts(self, model: str, since: int, until: int) -> tuple[tuple[SecondCount, ...], int]:
        """Return a model's complete seconds in since <= second < until, and the first second that is not complete."""
        with self._lock:
            row = self._database.execute("SELECT complete_to FROM state").fetchone()
            complete_to = int(row[0]) if row else 0
            query = (
                "SELECT second, revision, region, traffic, attempts, bad, slow, abandoned, callers FROM counts "
                "WHERE model = ? AND second >= ? AND second < ? ORDER BY second, revision, region, traffic"
            )
            rows = self._database.execute(query, (model, since, min(until, complete_to))).fetchall()
        return tuple(SecondCount(*row) for row in rows), complete_to

    def prune(self, before: int) -> None:
        """Forget the seconds before that one."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM counts WHERE second < ?", (before,))

    def flush(self) -> None:
        """Put what was committed on the disk itself, so that what it was counted from may be deleted."""
        with self._lock, closing(self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")) as answer:
            answer.fetchall()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._database.close()
