from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import rfc8785
from sqlalchemy import create_engine

from fleet.errors import Busy, InputError, LedgerBroken, OperationFailed
from registry.leases import Leases
from registry.ledger import GENESIS, Event, Ledger, NewEvent
from registry.tables import METADATA

STREAM = "release/employment/1"


def told(number: int = 0, stream: str = STREAM, **more) -> NewEvent:
    return NewEvent(stream, "weights.read", {"edge": "edge-1", "weight": number}, "release-flow", **more)


@pytest.fixture
def ten(ledger: Ledger) -> Ledger:
    for number in range(10):
        ledger.append(told(number, stream=f"release/employment/{number % 2}"))
    return ledger


def tampered(url: str, *statements: str) -> Ledger:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()
    return Ledger(url)


def told_directly(url: str, query: str) -> object:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql(query).scalar_one()
    engine.dispose()
    return found


def test_an_event_is_read_back_as_it_was_written(ledger: Ledger, clock):
    written = ledger.append(
        NewEvent(
            STREAM,
            "phase",
            {"to": "canary", "rate": "0.05", "regions": ["us", "eu"], "of": None, "ok": True},
            "flow",
            0,
            "i-1",
            "deploy/us",
        )
    )
    assert ledger.stream(STREAM) == (written,)
    assert (written.seq, written.stream_seq, written.intent_id, written.effect_key) == (1, 1, "i-1", "deploy/us")
    assert written.at == clock.at
    assert written.at.tzinfo is not None
    assert written.previous_hash == GENESIS
    assert Event.from_bytes(written.to_bytes()) == written


def test_a_stream_is_read_by_type_and_an_event_is_found_by_its_intent(ledger: Ledger):
    first = ledger.append(NewEvent(STREAM, "operator.commanded", {}, "operator one", intent_id="a"))
    ledger.append(told(1))
    second = ledger.append(NewEvent("release/employment/2", "operator.commanded", {}, "operator one", intent_id="a"))
    third = ledger.append(NewEvent(STREAM, "operator.obeyed", {}, "release-flow", intent_id="a"))
    assert ledger.stream(STREAM, "operator.commanded", "operator.obeyed") == (first, third)
    assert ledger.stream(STREAM, "nothing") == ()
    assert ledger.by_intent("a", "operator.commanded") == first
    assert ledger.by_intent("a", "operator.obeyed") == third
    assert ledger.by_intent("b", "operator.commanded") is None
    assert [ledger.position(name) for name in (STREAM, second.stream, "release/none")] == [3, 1, 0]


def test_the_hash_can_be_recomputed_without_our_code(ten: Ledger):
    previous = GENESIS
    for event in ten.events():
        document = json.loads(event.to_bytes())
        claimed = document.pop("hash")
        assert document["previous_hash"] == previous
        assert document["at"] == "2026-11-22T12:00:00.123456Z"
        assert claimed == "sha256:" + hashlib.sha256(rfc8785.dumps(document)).hexdigest()
        previous = claimed
    assert ten.head().hash == previous


def test_each_stream_counts_from_one_and_the_ledger_over_all(ten: Ledger):
    assert [event.seq for event in ten.events()] == list(range(1, 11))
    assert [event.stream_seq for event in ten.stream("release/employment/1")] == [1, 2, 3, 4, 5]
    assert ten.verify() == 10


def test_events_streams_and_last_select(ten: Ledger):
    ten.append(NewEvent("Release/other", "phase", {}, "flow"))
    assert ten.streams("release/") == ("release/employment/0", "release/employment/1")
    assert ten.streams("release/employment%") == ()
    assert [event.seq for event in ten.events(after_seq=4, limit=3)] == [5, 6, 7]
    newest = ten.last("release/employment/0", "weights.read")
    assert newest is not None
    assert newest.payload["weight"] == 8
    assert ten.last("release/employment/0", "phase") is None
    assert ten.stream("nobody wrote here") == ()


def test_an_append_that_expects_an_older_stream_is_refused(ledger: Ledger):
    ledger.append(told(), expected=0)
    ledger.append(told(), expected=1)
    with pytest.raises(Busy, match="has 2 events, not 1"):
        ledger.append(told(), expected=1)
    assert ledger.verify() == 2


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", [0.5, Decimal("0.5"), datetime.now(UTC), 2**53, b"bytes", {1: "x"}, "\ud800"])
def test_what_json_cannot_say_exactly_is_refused_by_name(ledger: Ledger, value):
    with pytest.raises(InputError, match=r"payload\.share"):
        ledger.append(NewEvent(STREAM, "t", {"share": [value]}, "flow"))
    assert ledger.verify() == 0


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("field", ["stream", "type", "actor", "intent_id", "effect_key"])
@pytest.mark.parametrize("value", ["", "x" * 256, "a\0b", "\ud800"])
def test_a_name_that_not_every_database_takes_is_refused(ledger: Ledger, field: str, value: str):
    with pytest.raises(InputError, match=field):
        ledger.append(replace(told(), **{field: value}))
    assert ledger.verify() == 0


def test_a_clock_without_a_time_zone_is_refused(ledger_url: str, ledger: Ledger):
    naive = Ledger(ledger_url, now=lambda: datetime(2026, 1, 1))  # noqa: DTZ001 - the very mistake
    with pytest.raises(InputError, match="time zone"):
        naive.append(told())
    assert ledger.verify() == 0


def test_four_processes_at_once_leave_no_gap(ledger: Ledger, ledger_url: str, start_python):
    script = """
import sys
from registry.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1])
for number in range(25):
    ledger.append(NewEvent("shared" if number % 2 else sys.argv[2], "t", {"number": number}, sys.argv[2]))
"""
    writers = [start_python(script, ledger_url, f"writer-{number}") for number in range(4)]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert ledger.verify() == 100
    assert [event.seq for event in ledger.events()] == list(range(1, 101))
    assert [event.stream_seq for event in ledger.stream("shared")] == list(range(1, 49))


def test_a_stale_epoch_is_refused_and_leaves_nothing(ledger: Ledger, clock):
    leases = Leases(ledger)
    old = leases.take("employment", "controller-a", 10)
    assert old is not None
    ledger.append(told(1, epoch=old.epoch, model="employment"))
    clock.forward(11)
    new = leases.take("employment", "controller-b", 10)
    assert new is not None
    with pytest.raises(Busy, match="epoch 1 is over, 2 holds it now"):
        ledger.append(told(2, epoch=old.epoch, model="employment"))
    ledger.append(told(3, epoch=new.epoch, model="employment"))
    ledger.append(told(4, epoch=old.epoch, model="another"))
    ledger.append(told(5, model="employment"))
    assert [event.payload["weight"] for event in ledger.stream(STREAM)] == [1, 3, 4, 5]
    assert ledger.verify() == 4


def test_a_lease_cannot_be_taken_between_the_check_of_an_epoch_and_its_event(ledger: Ledger, ledger_url: str, clock):
    """The clock is read after the fence: a taker that starts there must wait for the append's transaction."""
    leases = Leases(ledger)
    old = leases.take("employment", "a", 10)
    assert old is not None
    clock.forward(11)
    order: list[str] = []

    def take() -> None:
        assert leases.take("employment", "b", 10)
        order.append("taken")

    taker = threading.Thread(target=take)

    def slow_clock() -> datetime:
        taker.start()
        taker.join(0.3)
        order.append("still appending")
        return clock.at

    Ledger(ledger_url, now=slow_clock).append(told(epoch=old.epoch, model="employment"))
    taker.join(10)
    assert order == ["still appending", "taken"]


def test_an_edited_event_is_named(ten: Ledger, ledger_url: str):
    for column, value in [("payload", "'{}'"), ("actor", "'somebody'"), ("epoch", "7"), ("at", "'2026-11-22T12:00:00.123457Z'")]:
        before = told_directly(ledger_url, f"SELECT {column} FROM events WHERE seq = 4")
        broken = tampered(ledger_url, f"UPDATE events SET {column} = {value} WHERE seq = 4")
        with pytest.raises(LedgerBroken, match="event 4: is not what its hash says"):
            broken.verify()
        tampered(ledger_url, f"UPDATE events SET {column} = {before!r} WHERE seq = 4")
    assert ten.verify() == 10


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (["UPDATE events SET payload = replace(payload, ':', ' :') WHERE seq = 4"], "event 4: cannot be read"),
        (["UPDATE events SET payload = 'x' WHERE seq = 4"], "event 4: cannot be read"),
        (["UPDATE events SET at = 'yesterday' WHERE seq = 4"], "event 4: cannot be read"),
        (["UPDATE events SET schema = 2 WHERE seq = 4"], "event 4: has schema 2"),
        (["DELETE FROM events WHERE seq = 4"], "event 4: is missing"),
        (["DELETE FROM events WHERE seq = 1"], "event 1: is missing"),
        (["DELETE FROM events WHERE seq > 7"], "event 8: is missing: the tail up to 10"),
        (["DELETE FROM events"], "event 1: is missing"),
        (
            [
                "UPDATE events SET seq = 99 WHERE seq = 4",
                "UPDATE events SET seq = 4 WHERE seq = 6",
                "UPDATE events SET seq = 6 WHERE seq = 99",
            ],
            "event 4: does not follow",
        ),
        (["DELETE FROM head"], "head row is gone"),
        (["UPDATE head SET seq = 9"], "event 10: is not the recorded head"),
    ],
)
def test_a_tampered_chain_is_found(ten: Ledger, ledger_url: str, statements, named):
    with pytest.raises(LedgerBroken, match=named):
        tampered(ledger_url, *statements).verify()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET payload = '{}' WHERE seq = 10",
        "DELETE FROM events WHERE seq = 10",
        "DELETE FROM events",
        "UPDATE head SET hash = 'sha256:00'",
        "DELETE FROM head",
    ],
)
def test_nothing_is_appended_to_a_broken_head(ten: Ledger, ledger_url: str, statement):
    broken = tampered(ledger_url, statement)
    with pytest.raises(LedgerBroken):
        broken.append(told())
    assert told_directly(ledger_url, "SELECT max(seq) FROM events") in (None, 9, 10)


def test_a_file_that_is_no_database_is_a_broken_ledger(tmp_path: Path):
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database, " * 512)
    with pytest.raises(LedgerBroken):
        Ledger(f"sqlite:///{file}").verify()


def test_a_ledger_that_was_never_set_up_says_so(ledger_url: str, tmp_path: Path):
    (tmp_path / "home").mkdir()
    with pytest.raises(OperationFailed, match="has not been set up"):
        Ledger(ledger_url).verify()


def test_migrating_twice_and_from_anywhere_changes_nothing(ten: Ledger, ledger_url: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ledger(ledger_url).migrate()
    assert ten.verify() == 10


def test_the_migrations_and_the_tables_agree(ledger: Ledger, ledger_url: str):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with create_engine(ledger_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_ledger_from_a_newer_convoy_is_not_touched(ten: Ledger, ledger_url: str):
    newer = tampered(ledger_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OperationFailed, match="cannot be migrated"):
        newer.migrate()
    assert ten.verify() == 10


def test_ten_thousand_events_verify_in_seconds(ledger: Ledger, clock):
    import time

    from sqlalchemy import insert, update

    from registry.events import Head, sealed
    from registry.ledger import _columns
    from registry.tables import EVENTS, HEAD

    head, rows = Head(0, GENESIS), []
    for number in range(10_000):
        event = sealed(told(number), head, number + 1, clock.at + timedelta(seconds=number))
        head = Head(event.seq, event.hash)
        rows.append(_columns(event))
    with ledger.database.writing() as connection:
        connection.execute(insert(EVENTS), rows)
        connection.execute(update(HEAD).values(seq=head.seq, hash=head.hash))
    began = time.monotonic()
    assert ledger.verify() == 10_000
    assert time.monotonic() - began < 10
