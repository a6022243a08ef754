"""Ledgers written by earlier Convoys verify for ever: never regenerate these files, add one beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import rfc8785
from sqlalchemy import text

from fleet.errors import InputError, LedgerBroken
from registry.events import ChainCheck
from registry.ledger import Event, Ledger, NewEvent

LINES = (Path(__file__).parent / "fixtures" / "ledger-v1.jsonl").read_bytes().splitlines()
LAST = "sha256:c1cd7e16299f609dda7122d7a76988985036f0dd05771c2f066f5bc1890f00a7"


def followed(events: list[Event]) -> ChainCheck:
    check = ChainCheck()
    for event in events:
        check.follow(event)
    return check


def test_a_ledger_of_schema_1_still_verifies():
    check = ChainCheck()
    for line in LINES:
        event = Event.from_bytes(line)
        assert event.to_bytes() == line
        check.follow(event)
    assert (check.head.seq, check.head.hash) == (len(LINES), LAST)


def test_its_hashes_are_those_of_rfc_8785_and_sha_256():
    for line in LINES:
        document = json.loads(line)
        claimed = document.pop("hash")
        assert claimed == "sha256:" + hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def test_its_tables_migrate_to_the_newest_and_take_further_events(ledger_url: str):
    ledger = Ledger(ledger_url)
    ledger.migrate("0001")
    with ledger.database.writing() as connection:
        for line in LINES:
            row = json.loads(line)
            row["payload"] = rfc8785.dumps(row["payload"]).decode()
            names = list(row)
            connection.execute(text(f"INSERT INTO events ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"), row)
        connection.execute(text("UPDATE head SET seq = :seq, hash = :hash"), {"seq": len(LINES), "hash": LAST})
    ledger.migrate()
    assert ledger.verify() == len(LINES)
    assert [event.to_bytes() for event in ledger.events()] == LINES
    ledger.append(NewEvent("release/employment/3-1", "phase.entered", {"phase": "requested"}, "release-flow"), expected=0)
    assert ledger.verify() == len(LINES) + 1


@pytest.mark.parametrize("place", range(len(LINES)))
def test_each_line_of_it_is_protected(place: int):
    document = json.loads(LINES[place])
    document["actor"] += "x"
    changed = [Event.from_bytes(line) for line in [*LINES[:place], rfc8785.dumps(document), *LINES[place + 1 :]]]
    with pytest.raises(LedgerBroken, match=f"event {place + 1}:"):
        followed(changed)


def test_a_line_that_is_no_event_is_refused():
    for line in (b"", b"[]", b"{}", b'{"at":"2026-01-01"}', LINES[0][:-1]):
        with pytest.raises(InputError):
            Event.from_bytes(line)
