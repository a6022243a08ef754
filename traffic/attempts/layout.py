"""The tables in which an edge's counts are stored, and how a file of an older Convoy is brought up to them in place."""

from __future__ import annotations

import sqlite3
from typing import Final

VERSION: Final = 3
_COUNTS: Final = """
CREATE TABLE counts (
  model TEXT, second INTEGER, revision TEXT, region TEXT, traffic TEXT,
  attempts INTEGER NOT NULL, bad INTEGER NOT NULL, slow INTEGER NOT NULL, abandoned INTEGER NOT NULL,
  bad_bursts INTEGER NOT NULL, slow_bursts INTEGER NOT NULL, scored INTEGER NOT NULL, score_sum INTEGER NOT NULL,
  stand_ins INTEGER NOT NULL, last_ms INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (model, second, revision, region, traffic)
) WITHOUT ROWID;
"""
_PAIRS: Final = """
CREATE TABLE pairs (
  model TEXT, second INTEGER, revision TEXT, region TEXT,
  pairs INTEGER NOT NULL, disagreed INTEGER NOT NULL, distance_sum INTEGER NOT NULL,
  PRIMARY KEY (model, second, revision, region)
) WITHOUT ROWID;
CREATE TABLE waiting (number INTEGER PRIMARY KEY, read_ms INTEGER NOT NULL, rows BLOB NOT NULL);
"""
_STATE: Final = """
CREATE TABLE marks (log TEXT, inode INTEGER, offset INTEGER NOT NULL, head BLOB NOT NULL, done INTEGER NOT NULL, PRIMARY KEY (log, inode));
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), complete_to INTEGER NOT NULL, troubles BLOB NOT NULL, pending BLOB NOT NULL);
"""
# Layout 1 counted how many different callers got bad answers of each revision, of which nothing can be drawn any more
_TAKE_OVER: Final = """
INSERT INTO counts SELECT model, second, revision, region, traffic, attempts, bad, slow, abandoned, bad, slow, 0, 0, 0, 0 FROM counts_1;
DROP TABLE counts_1;
"""
_LAST: Final = "ALTER TABLE counts ADD COLUMN last_ms INTEGER NOT NULL DEFAULT 0;"
_STEPS: Final = {
    0: (_STATE, _COUNTS, _PAIRS),
    1: ("ALTER TABLE counts RENAME TO counts_1;", _COUNTS, _TAKE_OVER, _PAIRS),
    2: (_LAST,),
}
"""From an empty file, and from each older layout."""


def prepare(database: sqlite3.Connection) -> int:
    """Make or migrate the tables, whole or not at all; returns the layout that the file then has, which may be a newer one."""
    found = int(database.execute("PRAGMA user_version").fetchone()[0])
    if found not in _STEPS:
        return found
    database.executescript(f"BEGIN IMMEDIATE; {' '.join(_STEPS[found])} PRAGMA user_version = {VERSION}; COMMIT;")
    return VERSION
