"""Ledgers of many events quickly written, tampered with in their database, and signed."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from obstore.store import MemoryStore
from sqlalchemy import Connection, delete, insert, select, update

from registry.anchors import Anchored, Proven, anchor_if_due, held_by, verify_all
from registry.events import GENESIS, Event, Head, NewEvent, sealed
from registry.keys import Keyring, ensure_keyring
from registry.ledger import Ledger, _columns, _event
from registry.store import ContentStore
from registry.tables import EVENTS, HEAD, TREE_HEADS

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def told(number: int, stream: str = "release/employment-1") -> NewEvent:
    return NewEvent(stream, "weights.read", {"edge": "edge-1", "weight": number % 101}, "release flow")


def chain_of(size: int, streams: int = 7) -> list[Event]:
    """Return a valid chain of events."""
    head, found = Head(0, GENESIS), []
    for number in range(size):
        event = sealed(
            told(number, f"release/employment-{number % streams}"), head, number // streams + 1, BEGAN + timedelta(seconds=number)
        )
        head = Head(event.seq, event.hash)
        found.append(event)
    return found


def resealed(events: list[Event]) -> list[Event]:
    """Return events as one would write them who changed some and made every hash and place right again."""
    head, places, found = Head(0, GENESIS), dict[str, int](), []
    for event in events:
        places[event.stream] = places.get(event.stream, 0) + 1
        new = NewEvent(event.stream, event.type, event.payload, event.actor, event.epoch, event.intent_id, event.effect_key)
        event = sealed(new, head, places[event.stream], event.at)
        head = Head(event.seq, event.hash)
        found.append(event)
    return found


@cache
def empty_ledger() -> Path:
    """Return a ledger's file with its tables: to migrate takes longer than most tests."""
    file = Path(tempfile.mkdtemp(prefix="cv-")) / "ledger.db"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    ledger.close()
    return file


class Installation:
    """A ledger with its keys and two stores."""

    def __init__(self, root: Path) -> None:
        shutil.copyfile(empty_ledger(), root / "ledger.db")
        self.ledger = Ledger(f"sqlite:///{root / 'ledger.db'}", now=lambda: BEGAN)
        self.keys: Keyring = ensure_keyring(root / "keys")
        self.stores = {name: ContentStore(MemoryStore(), name) for name in ("us", "eu")}

    def write(self, events: list[Event]) -> None:
        """Write events behind the ledger's back, fast."""
        with self.editing() as connection:
            connection.execute(insert(EVENTS), [_columns(event) for event in events])
            connection.execute(update(HEAD).values(seq=events[-1].seq, hash=events[-1].hash))

    def anchor(self, every: int = 1, ended: Callable[[Event], bool] = lambda _: False) -> Anchored:
        return anchor_if_due(self.ledger, self.keys, self.stores, every, ended)

    def verify(self, stores: bool = True) -> Proven:
        copies = {name: held_by(store, f"store {name}") for name, store in self.stores.items()} if stores else {}
        return verify_all(self.ledger, self.keys.trusted, copies)

    def rewrite(self, events: list[Event], heads: bool = False) -> None:
        """Put other events in the place of all, the head's row too; the signed heads stay unless `heads` are to go."""
        with self.editing() as connection:
            connection.execute(delete(EVENTS))
            if heads:
                connection.execute(delete(TREE_HEADS))
            connection.execute(insert(EVENTS), [_columns(event) for event in events])
            connection.execute(update(HEAD).values(seq=events[-1].seq, hash=events[-1].hash))

    def events(self) -> list[Event]:
        with self.ledger.database.reading() as connection:
            return [_event(row) for row in connection.execute(select(EVENTS).order_by(EVENTS.c.seq))]

    @contextmanager
    def editing(self) -> Iterator[Connection]:
        """Give a connection of one who may do anything to the database."""
        with self.ledger.database.writing() as connection:
            yield connection

    def grow(self, by: int) -> None:
        """Write events through the front door."""
        for number in range(by):
            self.ledger.append(told(number))


def contents(store: ContentStore) -> Mapping[str, bytes]:
    return {name: store.noted("heads", name) for name in store.notes("heads")}
