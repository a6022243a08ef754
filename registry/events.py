"""An event of the ledger: what it says, how it is sealed to the one before it, and how a chain is checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError, LedgerBroken

JSON: TypeAlias = "bool | int | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""What a payload may hold; decimals travel as strings."""

SCHEMA = 1
GENESIS = "sha256:" + "0" * 64
"""The hash that the first event follows."""

REMEDY = "Nothing acts on it until a human has looked: keep a copy, and compare it with a backup."
LONGEST = 255
"""Characters of a name: the width of the columns."""

_LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What is to be recorded.

    `epoch` is the caller's lease epoch (0: none is needed); together with `model` it is checked against the lease.
    """

    stream: str
    type: str
    payload: Mapping[str, JSON]
    actor: str
    epoch: int = 0
    intent_id: str | None = None
    effect_key: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One recorded event. `seq` is gapless over the ledger and `stream_seq` within the stream, both from 1; `at` is UTC.

    `hash` covers every other field, `previous_hash` the event before.
    """

    schema: int
    seq: int
    stream: str
    stream_seq: int
    type: str
    at: datetime
    actor: str
    epoch: int
    intent_id: str | None
    effect_key: str | None
    payload: Mapping[str, JSON]
    previous_hash: str
    hash: str

    def computed_hash(self) -> str:
        """Return the hash that the event's content must have."""
        document = self._document()
        del document["hash"]
        return digest_of(canonical_json(document))

    def to_bytes(self) -> bytes:
        """Return the event as one line of canonical JSON, its hash included."""
        return canonical_json(self._document())

    @classmethod
    def from_bytes(cls, line: bytes) -> Event:
        """Read an event back; raises InputError when the line is not one."""
        try:
            document = json.loads(line)
            return cls(**{**document, "at": read_stamp(document["at"])})
        except (ValueError, TypeError, KeyError) as problem:
            raise InputError("event", f"the line is not a ledger event ({problem})") from problem

    def _document(self) -> dict[str, JSON]:
        return {
            "schema": self.schema,
            "seq": self.seq,
            "stream": self.stream,
            "stream_seq": self.stream_seq,
            "type": self.type,
            "at": stamp(self.at),
            "actor": self.actor,
            "epoch": self.epoch,
            "intent_id": self.intent_id,
            "effect_key": self.effect_key,
            "payload": self.payload,
            "previous_hash": self.previous_hash,
            "hash": self.hash,
        }


@dataclass(frozen=True, slots=True)
class Head:
    """The last event's sequence and hash, kept beside the events so that a cut tail is seen."""

    seq: int
    hash: str


def recordable(new: NewEvent) -> NewEvent:
    """Return what is to be recorded as plain values that every database takes; raises InputError for what cannot be."""
    for field in ("stream", "type", "actor", "intent_id", "effect_key"):
        value = getattr(new, field)
        if value is not None:
            _check_name(f"event {field}", value)
    return replace(new, payload={_key(key, "payload"): plain(value, f"payload.{key}") for key, value in new.payload.items()})


def sealed(new: NewEvent, head: Head, stream_seq: int, at: datetime) -> Event:
    """Return the event that follows `head`, from what `recordable` gave; `at` must be aware."""
    event = Event(
        schema=SCHEMA,
        seq=head.seq + 1,
        stream=new.stream,
        stream_seq=stream_seq,
        type=new.type,
        at=read_stamp(stamp(at)),
        actor=new.actor,
        epoch=new.epoch,
        intent_id=new.intent_id,
        effect_key=new.effect_key,
        payload=new.payload,
        previous_hash=head.hash,
        hash="",
    )
    return replace(event, hash=event.computed_hash())


class ChainCheck:
    """Follows a chain event by event; raises LedgerBroken that names the first bad sequence."""

    def __init__(self) -> None:
        self.head = Head(0, GENESIS)
        self._streams: dict[str, int] = {}

    def follow(self, event: Event) -> None:
        """Check that an event comes next, follows the one before, and is what its hash says."""
        expected = self.head.seq + 1
        if event.seq != expected:
            raise LedgerBroken(f"ledger event {expected}", f"is missing (the next one there is {event.seq})", REMEDY)
        if event.schema != SCHEMA:
            raise LedgerBroken(f"ledger event {event.seq}", f"has schema {event.schema}; this Convoy reads schema {SCHEMA}", REMEDY)
        if event.previous_hash != self.head.hash:
            raise LedgerBroken(f"ledger event {event.seq}", "does not follow the event before it", REMEDY)
        check_content(event)
        follows = self._streams.get(event.stream, 0)
        if event.stream_seq != follows + 1:
            raise LedgerBroken(
                f"ledger event {event.seq}", f"is number {event.stream_seq} of '{event.stream}' and follows number {follows}", REMEDY
            )
        self._streams[event.stream] = event.stream_seq
        self.head = Head(event.seq, event.hash)

    def end(self, recorded: Head) -> None:
        """Check that the chain ends where the head says."""
        if recorded.seq > self.head.seq:
            raise LedgerBroken(f"ledger event {self.head.seq + 1}", f"is missing: the tail up to {recorded.seq} was cut off", REMEDY)
        if recorded != self.head:
            raise LedgerBroken(f"ledger event {self.head.seq}", f"is not the recorded head, event {recorded.seq}", REMEDY)


def check_content(event: Event) -> None:
    """Raise LedgerBroken unless the event's content has the event's hash."""
    if event.computed_hash() != event.hash:
        raise LedgerBroken(f"ledger event {event.seq}", "is not what its hash says: it was changed after it was written", REMEDY)


def plain(value: object, where: str) -> JSON:
    """Return a JSON value as plain dicts, lists and scalars; raises InputError that names what cannot be recorded."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encodable(value, where)
    if isinstance(value, int) and abs(value) < _LARGEST:
        return int(value)
    if isinstance(value, Mapping):
        return {_key(key, where): plain(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(inner, f"{where}[{place}]") for place, inner in enumerate(value)]
    raise InputError(where, f"a {type(value).__name__} cannot be recorded", "Decimals, floats, large integers and times travel as strings.")


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise InputError(where, f"the key {key!r} is not text")
    return _encodable(key, where)


def _encodable(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise InputError(where, "holds text that has no UTF-8 form") from problem
    # A str subclass (an enum's member) becomes its plain text.
    return str.__str__(text)


def _check_name(field: str, value: str) -> None:
    if not 0 < len(value) <= LONGEST or "\0" in value:
        raise InputError(field, f"must have 1 to {LONGEST} characters and no NUL (has {len(value)})")
    _encodable(value, field)


def stamp(at: datetime) -> str:
    """Return an aware time as RFC 3339 in UTC with microseconds, ending in Z; such texts sort as the times do."""
    if at.tzinfo is None:
        raise InputError("clock", "gives a time without a time zone", "Use datetime.now(UTC).")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_stamp(text: str) -> datetime:
    """Return the time that `stamp` wrote; raises ValueError for anything else."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or stamp(at) != text:
        raise ValueError(f"{text!r} is not a UTC time with microseconds")
    return at
