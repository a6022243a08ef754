"""What was counted stays counted: over restarts, on the wire, and when a newer Convoy opens an older one's file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from test_traffic_attempts_folder import Rig
from test_traffic_attempts_lines import CANARY, STABLE, START, attempt_line, request_line
from test_traffic_attempts_pairs import ONE, SHADOW, TWO, live, said, shadow

from fleet.evidence import AttemptCount, Attempts, PairCount
from traffic.attempts.folder import Limits
from traffic.attempts.formats import ACCESS_LOG, ATTEMPTS_LOG
from traffic.attempts.layout import VERSION
from traffic.attempts.store import CountStore, SecondCount
from traffic.attempts.terms import Terms
from traffic.wire import attempts_from_json, attempts_to_json

SECOND = START // 1000
TERMS = Terms(50, (0.0, 2.0), 0.05)
LAYOUT_1 = """
CREATE TABLE counts (
  model TEXT, second INTEGER, revision TEXT, region TEXT, traffic TEXT,
  attempts INTEGER NOT NULL, bad INTEGER NOT NULL, slow INTEGER NOT NULL, abandoned INTEGER NOT NULL, callers INTEGER NOT NULL,
  PRIMARY KEY (model, second, revision, region, traffic)
) WITHOUT ROWID;
CREATE TABLE marks (log TEXT, inode INTEGER, offset INTEGER NOT NULL, head BLOB NOT NULL, done INTEGER NOT NULL, PRIMARY KEY (log, inode));
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), complete_to INTEGER NOT NULL, troubles BLOB NOT NULL, pending BLOB NOT NULL);
PRAGMA user_version = 1;
"""
TROUBLES_1 = b'{"malformed":2,"late":0,"unjoined":1,"unrouted":0,"truncated":0}'


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, terms=TERMS)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A file of layout 1, with an attempt that still waits for its request."""
    path = tmp_path / "attempts.sqlite"
    pending = (
        b'{"7/one":[["7/one",%d,%d,["employment","%b","r1","live"],["employment","%b","r1","live"],"unclear",true,"masked"]]},{},{"7/one":[%d]}'
        % (START, START + 3, CANARY.encode(), CANARY.encode(), START)
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(LAYOUT_1)
        database.execute("INSERT INTO counts VALUES ('employment', ?, ?, 'r1', 'live', 100, 7, 3, 2, 1)", (SECOND - 5, CANARY))
        database.execute("INSERT INTO counts VALUES ('employment', ?, ?, 'r1', 'live', 50, 0, 0, 0, 0)", (SECOND - 4, STABLE))
        database.execute("INSERT INTO marks VALUES ('attempts.log', 77, 10, x'00', 1)")
        database.execute("INSERT INTO state VALUES (1, ?, ?, ?)", (SECOND - 1, TROUBLES_1, b"[" + pending + b"]"))
    return path


def test_a_file_of_the_older_layout_is_taken_over_with_all_its_counts(older: Path) -> None:
    with closing(sqlite3.connect(older)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    store = CountStore(older)
    rows, complete_to = store.counts("employment", 0, 2**40)
    assert rows == (
        SecondCount(
            SECOND - 5, CANARY, "r1", "live", 100, 7, 3, 2, bad_bursts=7, slow_bursts=3, scored=0, score_sum=0, stand_ins=0, last_ms=0
        ),
        SecondCount(
            SECOND - 4, STABLE, "r1", "live", 50, 0, 0, 0, bad_bursts=0, slow_bursts=0, scored=0, score_sum=0, stand_ins=0, last_ms=0
        ),
    )
    assert (complete_to, store.load().troubles.malformed, store.load().troubles.unpaired) == (SECOND - 1, 2, 0)
    assert [(mark.log, mark.inode, mark.done) for mark in store.marks()] == [("attempts.log", 77, True)]
    assert (store.pairs("employment", 0, 2**40), store.waiting()) == ((), ())
    store.close()
    again = CountStore(older)
    assert again.counts("employment", 0, 2**40)[0] == rows
    with closing(sqlite3.connect(older)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_a_file_of_the_second_layout_keeps_its_counts_and_does_not_know_when_they_ended(tmp_path: Path) -> None:
    path = tmp_path / "attempts.sqlite"
    CountStore(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript("ALTER TABLE counts DROP COLUMN last_ms; PRAGMA user_version = 2;")
        row = (SECOND, CANARY, 100, 7, 3, 2, 6, 2, 5, 900, 1)
        database.execute("INSERT INTO counts VALUES ('employment', ?, ?, 'r1', 'live', ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        database.execute("INSERT INTO state VALUES (1, ?, '{}', '')", (SECOND + 1,))
    rows, _ = CountStore(path).counts("employment", 0, 2**40)
    assert rows == (SecondCount(SECOND, CANARY, "r1", "live", 100, 7, 3, 2, 6, 2, 5, 900, 1, last_ms=0),)


def test_the_last_answer_of_a_second_is_told_to_the_millisecond_however_it_was_read(rig: Rig) -> None:
    written(rig, live("one", duration_ms=9), live("two", duration_ms=4))
    first = seen(rig)
    written(rig, live("three", duration_ms=2))
    again = seen(rig)
    (count,), (same,) = ([found for found in each.counts if found.second == SECOND] for each in (first, again))
    assert count.last_ms == same.last_ms == START + 9


def test_counting_goes_on_in_a_file_of_the_older_layout(older: Path) -> None:
    rig = Rig(older.parent, terms=TERMS)
    rig.write(ACCESS_LOG, request_line("one", code=0, flags="DC") + b"\n")
    rig.answer(1, code=500)
    assert rig.counted() == (151, 8)
    found = rig.folder.seconds("employment", SECOND, SECOND + 1)
    assert [(row.attempts, row.bad, row.abandoned, row.bad_bursts) for row in found] == [(1, 1, 1, 1)]
    assert rig.folder.troubles.unjoined == 1


def test_a_migration_that_fails_leaves_the_older_file_as_it_was(older: Path) -> None:
    with closing(sqlite3.connect(older)) as database, database:
        database.execute("CREATE TABLE pairs (in_the_way)")
    with pytest.raises(sqlite3.OperationalError):
        CountStore(older)
    with closing(sqlite3.connect(older)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("SELECT sum(attempts), sum(bad), sum(callers) FROM counts").fetchone() == (150, 7, 1)


def written(rig: Rig, *lines: bytes) -> None:
    for line in lines:
        rig.write(ATTEMPTS_LOG, line + b"\n")


def seen(rig: Rig) -> Attempts:
    rig.counted()
    return rig.folder.attempts("employment", 0, 2**40)


def test_bursts_scores_and_pairs_are_told_with_their_edge_and_travel_unchanged(rig: Rig) -> None:
    written(rig, live(), shadow(answer=said(TWO, 0.5)), live("two", answer=said(ONE, 0.5)))
    written(rig, live("three", code=500, answer=None), live("four", code=500, answer=None, duration_ms=60))
    found = seen(rig)
    assert all(count.last_ms // 1000 == SECOND for count in found.counts)
    assert tuple(replace(count, last_ms=0) for count in found.counts) == (
        AttemptCount(
            SECOND, "edge-1", "employment", STABLE, "r1", 4, 2, 1, "live", bad_bursts=1, slow_bursts=1, scored=2, score_sum=750_000
        ),
        AttemptCount(
            SECOND, "edge-1", "employment", SHADOW, "r1", 1, 0, 0, "shadow", bad_bursts=0, slow_bursts=0, scored=1, score_sum=250_000
        ),
    )
    assert found.pairs == (PairCount(SECOND, "edge-1", "employment", SHADOW, "r1", 1, 1, 250_000),)
    assert attempts_from_json(attempts_to_json(found)) == found


def test_a_burst_that_a_restart_falls_into_counts_once(rig: Rig) -> None:
    written(rig, live("two", START + 40, CANARY, code=500, answer=None))
    rig.folder.turn()
    rig.restart()
    written(rig, live("one", START + 20, STABLE, code=500, answer=None), live("three", START + 60, CANARY, code=500, answer=None))
    counts = seen(rig).counts
    assert [(count.revision, count.bad) for count in counts] == [(CANARY, 2), (STABLE, 1)]
    assert sum(count.bad_bursts or 0 for count in counts) == 1


def test_an_answer_that_waits_for_its_other_half_survives_a_restart_and_counts_once(rig: Rig) -> None:
    written(rig, shadow())
    rig.folder.turn()
    rig.restart()
    written(rig, live(), live("two"))
    rig.folder.turn()
    rig.restart()
    written(rig, shadow("two", answer=said(TWO, 0.0)))
    found = seen(rig)
    assert [(pair.pairs, pair.disagreed, pair.distance_sum) for pair in found.pairs] == [(2, 1, 500_000)]
    rig.restart()
    assert seen(rig).pairs == found.pairs


def test_pairs_are_told_only_of_complete_seconds_and_of_their_model(rig: Rig) -> None:
    written(rig, live(), shadow())
    rig.folder.turn()
    assert rig.folder.attempts("employment", 0, 2**40).pairs == ()
    assert len(seen(rig).pairs) == 1
    assert rig.folder.attempts("employment", SECOND + 1, 2**40).pairs == ()
    assert rig.folder.attempts("another", 0, 2**40).pairs == ()


def test_answers_that_waited_long_enough_are_gone_from_the_disk(rig: Rig) -> None:
    written(rig, live(), shadow("two"))
    rig.folder.turn()
    with closing(sqlite3.connect(rig.path / "attempts.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM waiting").fetchone() == (1,)
        rig.now += 20
        rig.folder.turn()
        assert database.execute("SELECT count(*) FROM waiting").fetchone() == (0,)
    assert rig.folder.troubles.unpaired == 1


def test_old_pairs_are_forgotten_with_their_counts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, limits=Limits(keep=100), terms=TERMS)
    written(rig, live(), shadow())
    assert len(seen(rig).pairs) == 1
    rig.now += 7200
    assert seen(rig) == Attempts((), seen(rig).complete_to - 5)


def test_what_one_turn_failed_to_store_is_paired_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    written(rig, live())
    rig.folder.turn()
    written(rig, shadow())

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(CountStore, "commit", full)
        with pytest.raises(sqlite3.OperationalError):
            rig.folder.turn()
    assert [pair.pairs for pair in seen(rig).pairs] == [1]


def test_a_torn_line_of_either_log_is_told_and_the_whole_one_behind_it_counts(rig: Rig) -> None:
    older = attempt_line("older").replace(b'"answer":null,', b"")
    written(rig, live()[:90] + older, older[:90] + live("two"), live("three"))
    rig.write(ACCESS_LOG, request_line()[:90] + request_line("two") + b"\n")
    assert (rig.counted(), rig.folder.malformed) == ((3, 0), 3)
