"""Receipts: which blobs of a store were read back and found right, and what the store said of them then.

A receipt is a reason not to read a blob again as long as the store lists it with the same size and the same e-tag (or,
where it gives none, the same time of writing). It is no proof: a disk that forgets bits does not tell. That is what the
scrub is for, and whoever unpacks a revision reads all of it. Kept beside Convoy, never in the store: who can write to the
store could write it. Losing them costs one reading.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path

from fleet.errors import OperationFailed
from registry.store import Stored

_TABLE = "CREATE TABLE IF NOT EXISTS receipts (digest TEXT PRIMARY KEY, size INTEGER NOT NULL, mark TEXT NOT NULL)"
BUSY_SECONDS = 30.0


class Receipts:
    """The receipts of one store, in a folder of receipts; all verbs may be called from several processes."""

    def __init__(self, folder: Path, store: str) -> None:
        told = re.sub(r"[^A-Za-z0-9.-]+", "-", store)[-40:].strip("-.")
        self.file = folder / f"{told}-{sha256(store.encode()).hexdigest()[:12]}.db"

    def good(self, listed: Mapping[str, Stored]) -> frozenset[str]:
        """Return which of the listed blobs, by digest, have a receipt that still holds."""
        if not (listed and self.file.exists()):
            return frozenset()
        with self._opened() as database:
            rows = database.execute("SELECT digest, size, mark FROM receipts").fetchall()
        return frozenset(digest for digest, size, mark in rows if digest in listed and _said(listed[digest]) == (size, mark))

    def give(self, read: Mapping[str, Stored]) -> None:
        """Keep that blobs were read back and right, and what the store said of them with their bytes."""
        with self._opened() as database:
            rows = [(digest, *_said(stored)) for digest, stored in read.items()]
            database.executemany("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?)", rows)
            database.commit()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=BUSY_SECONDS)) as database:
                database.execute(_TABLE)
                yield database
        except (OSError, sqlite3.Error) as problem:
            raise OperationFailed(f"receipts {self.file}", f"cannot be used ({problem})", "Delete the file: it is made again.") from problem


def _said(stored: Stored) -> tuple[int, str]:
    return stored.size, stored.etag or stored.at.isoformat()
