"""A signed tree head: what the ledger was at one size, so that nobody can cut, change or rewrite it later unseen.

The tree is RFC 6962's over the events in their order; an entry is the 32 bytes of an event's hash, which covers all
of the event and the one before it. A head also says how it follows the head before: by that head's digest, and by a
consistency proof, so that a store's copies alone show that the ledger was only ever added to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError, LedgerBroken
from registry.dsse import Envelope, once, sealed
from registry.events import GENESIS, REMEDY, Event, read_stamp, stamp
from registry.keys import SigningKey, Trusted
from registry.merkle import Growing, follows, leaf_hash

PAYLOAD_TYPE = "application/vnd.convoy.ledger-head.v1+json"


@dataclass(frozen=True, slots=True)
class TreeHead:
    """The ledger's first `size` events, as they were at a time.

    `number` counts the heads from 1 and `previous` is the digest of the signed head before (the genesis hash for the
    first). `root` is the Merkle root, `chain` the last event's hash, `ledger` the first event's: it names the ledger.
    `key` is the id of the key that signs, `consistency` the proof from the size of the head before.
    """

    number: int
    size: int
    root: str
    chain: str
    ledger: str
    at: datetime
    key: str
    previous: str = GENESIS
    consistency: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed."""
        return canonical_json(
            {
                "number": self.number,
                "size": self.size,
                "root": self.root,
                "chain": self.chain,
                "ledger": self.ledger,
                "at": stamp(self.at),
                "key": self.key,
                "previous": self.previous,
                "consistency": list(self.consistency),
            }
        )


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head in the envelope in which it is kept; `place` is where this copy came from."""

    head: TreeHead
    data: bytes
    place: str = "the ledger"

    @property
    def subject(self) -> str:
        """What messages call it."""
        return f"ledger head {self.head.number} in {self.place}"

    @property
    def digest(self) -> str:
        """What the next head calls it."""
        return digest_of(self.data)


def sign_head(head: TreeHead, key: SigningKey) -> SignedHead:
    """Return a head, signed."""
    return SignedHead(head, sealed(PAYLOAD_TYPE, head.to_bytes(), key).to_bytes())


def read_head(data: bytes, place: str) -> SignedHead:
    """Read a signed head, without believing it; raises LedgerBroken for what is none: something else was written there."""
    try:
        envelope = Envelope.from_bytes(data)
        document = json.loads(envelope.payload, object_pairs_hook=once)
        head = TreeHead(**{**document, "at": read_stamp(document["at"]), "consistency": tuple(document["consistency"])})
        numbers, texts = (head.number, head.size), (head.root, head.chain, head.ledger, head.key, head.previous, *head.consistency)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("something else where text is due")
        if envelope.type != PAYLOAD_TYPE or head.to_bytes() != envelope.payload or not all(type(value) is int for value in numbers):
            raise ValueError("not the bytes of a head")
        return SignedHead(head, data, place)
    except (InputError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise LedgerBroken(f"ledger head in {place}", f"cannot be read ({problem})", REMEDY) from problem


def check_signature(signed: SignedHead, trusted: Trusted) -> None:
    """Raise LedgerBroken unless the key that a head names is trusted and signed it."""
    signers = Envelope.from_bytes(signed.data).signers(trusted)
    if signed.head.key not in trusted:
        known = ", ".join(sorted(trusted))
        raise LedgerBroken(signed.subject, f"was signed with the key {signed.head.key}, which is not trusted ({known})", REMEDY)
    if signed.head.key not in signers:
        raise LedgerBroken(signed.subject, "does not have its key's signature: it was changed after it was signed", REMEDY)


def check_sequence(heads: Sequence[SignedHead]) -> None:
    """Raise LedgerBroken unless heads are all that were signed from the first on, each following the one before."""
    for expected, signed in enumerate(heads, start=1):
        if signed.head.number != expected:
            raise LedgerBroken(f"ledger head {expected} in {signed.place}", f"is gone (the next one there is {signed.head.number})", REMEDY)
    if heads and heads[0].head.previous != GENESIS:
        raise LedgerBroken(heads[0].subject, "is not the first: it follows another", REMEDY)
    for before, after in pairwise(heads):
        if after.head.previous != before.digest:
            raise LedgerBroken(after.subject, f"does not follow head {before.head.number} there", REMEDY)
        if after.head.size <= before.head.size or not grew(before.head, after.head, after.head.consistency):
            raise LedgerBroken(
                after.subject, f"does not prove that it only adds to the {before.head.size} events of the one before", REMEDY
            )


def grew(earlier: TreeHead, later: TreeHead, proof: Iterable[str]) -> bool:
    """Whether a proof shows that a later head only adds to an earlier one."""
    try:
        steps = [raw(step) for step in proof]
        return follows((earlier.size, raw(earlier.root)), (later.size, raw(later.root)), steps)
    except ValueError:
        return False


class TreeCheck:
    """Follows a chain that verifies, event by event; raises LedgerBroken where heads signed something else.

    The heads may come in any order and from any place, and the same one several times.
    """

    def __init__(self, heads: Iterable[SignedHead]) -> None:
        # The last is taken first: of several at one size, the one that was given first is named
        self._waiting = sorted(heads, key=lambda signed: signed.head.size)[::-1]
        self._tree = Growing()
        self._ledger = GENESIS
        self._good = 0

    def follow(self, event: Event) -> None:
        """Add the next event, and hold the heads of this size against it."""
        self._tree.add(entry(event.hash))
        if event.seq == 1:
            self._ledger = event.hash
        while self._waiting and self._waiting[-1].head.size <= event.seq:
            self._hold(self._waiting.pop(), event)

    def end(self) -> None:
        """Check that no head signed more events than there are."""
        if self._waiting:
            signed = self._waiting[-1]
            reason = f"is missing: {signed.subject} signed {signed.head.size} events, the tail was cut off"
            raise LedgerBroken(f"ledger event {self._tree.size + 1}", reason, REMEDY)

    def _hold(self, signed: SignedHead, event: Event) -> None:
        head = signed.head
        if head.ledger != self._ledger:
            raise LedgerBroken(
                "ledger event 1", f"is not the one of {signed.subject}: this is another ledger, or all of it was rewritten", REMEDY
            )
        if (head.size, head.root, head.chain) != (event.seq, hexed(self._tree.root()), event.hash):
            first = f"ledger event {self._good + 1}" if self._good + 1 == head.size else f"ledger events {self._good + 1} to {head.size}"
            raise LedgerBroken(first, f"are not what {signed.subject} signed: they were rewritten", REMEDY)
        self._good = head.size


def entry(event_hash: str) -> bytes:
    """Return the leaf of an event with that hash."""
    return leaf_hash(raw(event_hash))


def raw(digest: str) -> bytes:
    """Return the 32 bytes of `sha256:<hex>`; raises ValueError for anything else."""
    kind, _, digits = digest.partition(":")
    found = bytes.fromhex(digits)
    if kind != "sha256" or len(found) != 32:
        raise ValueError(f"{digest!r} is not a SHA-256")
    return found


def hexed(found: bytes) -> str:
    """Return `sha256:<hex>` of 32 bytes that are a hash."""
    return "sha256:" + found.hex()
