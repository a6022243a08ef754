"""The ledger: append-only events in SQL, gapless and hash-chained, the truth of every release."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from fleet.canonical import canonical_json
from fleet.errors import Busy, LedgerBroken
from registry.database import Database
from registry.events import GENESIS, JSON, REMEDY, ChainCheck, Event, Head, NewEvent, check_content, read_stamp, recordable, sealed, stamp
from registry.heads import SignedHead, TreeCheck, check_sequence, read_head
from registry.tables import EVENTS, HEAD, LEASES, TREE_HEADS

__all__ = ["GENESIS", "JSON", "Event", "Head", "Ledger", "NewEvent", "utc_now"]

HEAD_ID = 1
_READ_AT_ONCE = 1000


def utc_now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The events of one database; any SQLAlchemy URL, a file for SQLite. Opens nothing until it is used."""

    def __init__(self, url: str, now: Callable[[], datetime] = utc_now) -> None:
        self.database = Database(url)
        self.now = now

    def migrate(self, revision: str = "head") -> None:
        """Create or bring up to date the tables; may be run at any time, from anywhere, by several at once."""
        self.database.migrate(revision)

    def close(self) -> None:
        """Close idle connections; the ledger stays usable."""
        self.database.close()

    def append(self, new: NewEvent, expected: int | None = None) -> Event:
        """Record an event and return it.

        `expected` is the `stream_seq` that it must follow (0: it must open the stream). Raises Busy when the stream
        has moved on or a newer epoch holds the model, InputError when the event cannot be recorded, LedgerBroken when
        the last event is not what was written.
        """
        new = recordable(new)
        with self.database.writing() as connection:
            head = lock_head(connection)
            _check_head(connection, head)
            _fence(connection, new)
            follows = _length(connection, new.stream)
            if expected is not None and expected != follows:
                raise Busy(f"stream '{new.stream}'", f"has {follows} events, not {expected}: somebody else wrote to it", "Read it again.")
            event = sealed(new, head, follows + 1, self.now())
            connection.execute(insert(EVENTS).values(_columns(event)))
            connection.execute(update(HEAD).where(HEAD.c.id == HEAD_ID).values(seq=event.seq, hash=event.hash))
        return event

    def stream(self, name: str, *types: str) -> tuple[Event, ...]:
        """Return a stream's events in order, of some types or of all; none for a stream that nobody wrote to."""
        query = select(EVENTS).where(EVENTS.c.stream == name)
        return self._read((query.where(EVENTS.c.type.in_(types)) if types else query).order_by(EVENTS.c.stream_seq))

    def by_intent(self, intent_id: str, type: str) -> Event | None:  # noqa: A002 - the event's own word
        """Return the first event of a type that carries an intent's id, in whichever stream, or None; looks through all events."""
        found = self._read(select(EVENTS).where(EVENTS.c.intent_id == intent_id, EVENTS.c.type == type).order_by(EVENTS.c.seq).limit(1))
        return found[0] if found else None

    def position(self, stream: str) -> int:
        """Return the `stream_seq` of a stream's last event, 0 for one that nobody wrote to: what the next append may expect."""
        with self.database.reading() as connection:
            return _length(connection, stream)

    def streams(self, prefix: str = "") -> tuple[str, ...]:
        """Return the names of the streams that start so, in the order of their first events."""
        query = select(EVENTS.c.stream).where(EVENTS.c.stream_seq == 1).order_by(EVENTS.c.seq)
        with self.database.reading() as connection:
            names = connection.execute(query.where(EVENTS.c.stream.startswith(prefix, autoescape=True))).scalars().all()
        # SQLite's LIKE does not tell capitals from small letters.
        return tuple(name for name in names if name.startswith(prefix))

    def starting_with(self, prefix: str, *types: str) -> tuple[Event, ...]:
        """Return the events of some types in every stream that starts so, in order."""
        chosen = EVENTS.c.stream.startswith(prefix, autoescape=True) & EVENTS.c.type.in_(types)
        return tuple(event for event in self._read(select(EVENTS).where(chosen).order_by(EVENTS.c.seq)) if event.stream.startswith(prefix))

    def effect_keys(self, prefix: str) -> tuple[str, ...]:
        """Return the different effect keys that start so, sorted."""
        chosen = select(EVENTS.c.effect_key).where(EVENTS.c.effect_key.startswith(prefix, autoescape=True)).distinct()
        with self.database.reading() as connection:
            return tuple(sorted(key for key in connection.execute(chosen).scalars() if key.startswith(prefix)))

    def newest(self, type: str) -> dict[str, Event]:  # noqa: A002 - the event's own word
        """Return the newest event of a type in each stream that has one, by stream."""
        last = select(func.max(EVENTS.c.seq)).where(EVENTS.c.type == type).group_by(EVENTS.c.stream)
        return {event.stream: event for event in self._read(select(EVENTS).where(EVENTS.c.seq.in_(last)).order_by(EVENTS.c.seq))}

    def events(self, after_seq: int = 0, limit: int | None = None) -> tuple[Event, ...]:
        """Return the events after a sequence, in order, at most `limit`."""
        return self._read(select(EVENTS).where(EVENTS.c.seq > after_seq).order_by(EVENTS.c.seq).limit(limit))

    def last(self, stream: str, type: str) -> Event | None:  # noqa: A002 - the event's own word
        """Return a stream's newest event of a type, or None."""
        query = select(EVENTS).where(EVENTS.c.stream == stream, EVENTS.c.type == type)
        found = self._read(query.order_by(EVENTS.c.stream_seq.desc()).limit(1))
        return found[0] if found else None

    def head(self) -> Head:
        """Return the recorded head: the last sequence and its hash (0 and the genesis hash when empty)."""
        with self.database.reading() as connection:
            return _head(connection)

    def tree_heads(self) -> tuple[SignedHead, ...]:
        """Return the signed heads in order, believed to be no more than readable; raises LedgerBroken."""
        with self.database.reading() as connection:
            return _tree_heads(connection)

    def add_tree_head(self, signed: SignedHead) -> bool:
        """Keep a signed head; returns False, and keeps nothing, when its number is not the next: somebody else was quicker."""
        with self.database.writing() as connection:
            lock_head(connection)
            newest = connection.execute(select(func.max(TREE_HEADS.c.number))).scalar_one_or_none()
            if signed.head.number != (newest or 0) + 1:
                return False
            connection.execute(insert(TREE_HEADS).values(number=signed.head.number, envelope=signed.data.decode()))
        return True

    def verify(self, *kept: SignedHead, watch: Callable[[Event], None] = lambda _: None) -> int:
        """Check the whole chain against the ledger's own heads and those `kept` elsewhere; return the number of events.

        Raises LedgerBroken that names the first bad sequence: edited, dropped, swapped, cut off, or rewritten since a
        head of it was made. Signatures are not looked at: `registry.anchors.verify_all` does. `watch` is told each event.
        """
        check = ChainCheck()
        with self.database.reading() as connection:
            recorded, heads = _head(connection), _tree_heads(connection)
            check_sequence(heads)
            tree = TreeCheck((*heads, *kept))
            rows = connection.execution_options(yield_per=_READ_AT_ONCE).execute(select(EVENTS).order_by(EVENTS.c.seq))
            for row in rows:
                event = _event(row)
                check.follow(event)
                tree.follow(event)
                watch(event)
        check.end(recorded)
        tree.end()
        return check.head.seq

    def _read(self, query: Select[tuple[object, ...]]) -> tuple[Event, ...]:
        with self.database.reading() as connection:
            return tuple(_event(row) for row in connection.execute(query))


def lock_head(connection: Connection) -> Head:
    """Take the ledger's one lock until the transaction ends, and return the head."""
    return _head(connection, lock=True)


def _head(connection: Connection, lock: bool = False) -> Head:
    query = select(HEAD.c.seq, HEAD.c.hash).where(HEAD.c.id == HEAD_ID)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise LedgerBroken("ledger", "its head row is gone", REMEDY)
    return Head(row.seq, row.hash)


def _tree_heads(connection: Connection) -> tuple[SignedHead, ...]:
    rows = connection.execute(select(TREE_HEADS.c.envelope).order_by(TREE_HEADS.c.number)).scalars()
    return tuple(read_head(envelope.encode(), "the ledger") for envelope in rows)


def _check_head(connection: Connection, head: Head) -> None:
    """Refuse to build on a last event that is missing, changed, or not the one recorded as the head."""
    row = connection.execute(select(EVENTS).order_by(EVENTS.c.seq.desc()).limit(1)).one_or_none()
    if row is None:
        ends = Head(0, GENESIS)
    else:
        event = _event(row)
        check_content(event)
        ends = Head(event.seq, event.hash)
    if ends != head:
        raise LedgerBroken(f"ledger event {head.seq}", f"is the recorded head, and the events end with {ends.seq}", REMEDY)


def _fence(connection: Connection, new: NewEvent) -> None:
    """Refuse an epoch that a newer lease of the model has replaced."""
    if new.epoch <= 0 or new.model is None:
        return
    newest = connection.execute(select(LEASES.c.epoch).where(LEASES.c.model == new.model)).scalar_one_or_none()
    if newest is not None and newest > new.epoch:
        raise Busy(
            f"model '{new.model}'", f"epoch {new.epoch} is over, {newest} holds it now", "Stop: another controller goes on from here."
        )


def _length(connection: Connection, stream: str) -> int:
    last = connection.execute(select(func.max(EVENTS.c.stream_seq)).where(EVENTS.c.stream == stream)).scalar_one_or_none()
    return int(last or 0)


def _columns(event: Event) -> dict[str, int | str | None]:
    return {
        "seq": event.seq,
        "schema": event.schema,
        "stream": event.stream,
        "stream_seq": event.stream_seq,
        "type": event.type,
        "at": stamp(event.at),
        "actor": event.actor,
        "epoch": event.epoch,
        "intent_id": event.intent_id,
        "effect_key": event.effect_key,
        "payload": canonical_json(event.payload).decode(),
        "previous_hash": event.previous_hash,
        "hash": event.hash,
    }


def _event(row: Row[tuple[object, ...]]) -> Event:
    columns = row._asdict()
    try:
        payload = json.loads(columns["payload"])
        # Bytes that merely parse to the same value were not written by us.
        if canonical_json(payload).decode() != columns["payload"] or not isinstance(payload, dict):
            raise ValueError("its payload is not canonical JSON")
        return Event(**{**columns, "payload": payload, "at": read_stamp(columns["at"])})
    except (ValueError, TypeError) as problem:
        raise LedgerBroken(f"ledger event {columns['seq']}", f"cannot be read: {problem}", REMEDY) from problem
