"""Anchoring the ledger: its Merkle root is signed every so many events, kept beside it and copied to every region's store.

A new head is first written into the ledger's database, once and for all, and then copied; so whoever is killed in
between leaves a head that the next one copies, and never two heads of one number. Before anything is signed, the whole
ledger is verified, and what each store holds last must be the beginning of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import ConvoyError, InputError, IntegrityError, LedgerBroken
from registry.dsse import LARGEST
from registry.events import GENESIS, REMEDY, Event
from registry.heads import SignedHead, TreeHead, check_sequence, check_signature, entry, grew, hexed, read_head, sign_head
from registry.keys import Keyring, Trusted
from registry.ledger import Ledger
from registry.merkle import consistency_proof, root_of
from registry.store import ContentStore

_NUMBERED = re.compile(r"[0-9]{12,}")


@dataclass(frozen=True, slots=True)
class Anchored:
    """What was done: the head that was signed, how many copies were made, and the stores that were away, each with why."""

    signed: TreeHead | None
    copied: int
    away: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proven:
    """What a verification found: events, signed heads, up to which event they reach, and each place's copies.

    `behind` names the stores that lack the newest heads: they were away, or lost them.
    """

    events: int
    heads: int
    signed: int
    copies: tuple[tuple[str, int], ...]
    behind: tuple[str, ...]


def anchor_if_due(
    ledger: Ledger,
    keys: Keyring | Trusted,
    stores: Mapping[str, ContentStore],
    every: int,
    ended: Callable[[Event], bool] = lambda _: False,
) -> Anchored:
    """Sign a head when `every` new events were written or one of them `ended` something, and bring every store up to date.

    May be repeated, killed anywhere, and called by several at once. With public halves alone nothing is signed. A store
    that does not answer is told and caught up later. Raises LedgerBroken when the ledger does not verify, or is not what a
    store's newest head says of it.
    """
    held: dict[str, tuple[int, ...]] = {}
    newest: list[SignedHead] = []
    away: list[str] = []
    for name, store in stores.items():
        with _unless_away(name, away):
            held[name] = _listed(store)
            newest += [_read(store, number, f"store {store.name}") for number in held[name][-1:]]
    # After the stores: somebody else may sign and copy meanwhile, and a store is never ahead of a ledger that is read later
    heads = _own(ledger, keys.trusted if isinstance(keys, Keyring) else keys)
    for signed in newest:
        _check_same(signed, heads)
    new = None
    if isinstance(keys, Keyring) and _due(ledger, heads, every, ended):
        new = _signed(ledger, keys, heads, {found[-1] for found in held.values() if found})
    heads = heads if new is None else (*heads, new)
    copied = 0
    for name, numbers in held.items():
        with _unless_away(name, away):
            for signed in heads[len(numbers) :]:
                copied += _copy(stores[name], signed)
    return Anchored(new.head if new else None, copied, tuple(away))


@contextmanager
def _unless_away(name: str, away: list[str]) -> Iterator[None]:
    """Note why a store cannot be used now, instead of keeping the others from it."""
    try:
        yield
    except LedgerBroken:
        raise
    except ConvoyError as problem:
        away.append(f"{name}: {problem}")


def verify_all(ledger: Ledger, trusted: Trusted, stores: Mapping[str, tuple[SignedHead, ...]], alone: Iterable[SignedHead] = ()) -> Proven:
    """Check the ledger, its signed heads and the copies of them: those of each store, and single ones kept elsewhere. Offline.

    Raises LedgerBroken that names the first bad event, or the head that is gone, foreign or changed.
    """
    kept = [*(signed for found in stores.values() for signed in found), *alone]
    for signed in kept:
        check_signature(signed, trusted)
    # The events first: what is wrong with them is named by its place, whatever was done to the heads
    events = ledger.verify(*kept)
    own = _own(ledger, trusted)
    for signed in own:
        check_signature(signed, trusted)
    for signed in kept:
        _check_same(signed, own)
    behind = tuple(place for place, found in stores.items() if len(found) < len(own))
    copies = tuple((place, len(found)) for place, found in stores.items())
    return Proven(events, len(own), own[-1].head.size if own else 0, copies, behind)


def held_by(store: ContentStore, place: str) -> tuple[SignedHead, ...]:
    """Return every head that a store holds; `place` is what messages call it. Raises LedgerBroken when one is gone or none."""
    found = tuple(_read(store, number, place) for number in _numbers(store))
    check_sequence(found)
    return found


def held_alone(file: Path) -> SignedHead:
    """Return one signed head that was kept in a file; raises LedgerBroken when it is none."""
    return read_head(_bytes(file), str(file))


def held_in(place: Path) -> tuple[SignedHead, ...]:
    """Return the heads of a folder that holds all of them, such as a store's; raises InputError where there is none."""
    folder = place / "heads" if (place / "heads").is_dir() else place
    files = [file for file in folder.iterdir() if file.is_file()] if folder.is_dir() else []
    if not files:
        raise InputError(str(place), "holds no signed head", "Give a signed head, a folder of them, or a store's folder.")
    found = tuple(sorted((read_head(_bytes(file), str(place)) for file in files), key=lambda signed: signed.head.number))
    check_sequence(found)
    return found


def _bytes(file: Path) -> bytes:
    """Return a file's bytes, of one that is too large to be a head as many as show that."""
    with file.open("rb") as opened:
        return opened.read(LARGEST + 1)


def _own(ledger: Ledger, trusted: Trusted) -> tuple[SignedHead, ...]:
    """Return the ledger's heads; the last one's signature covers all before it by their digests."""
    heads = ledger.tree_heads()
    check_sequence(heads)
    if heads:
        check_signature(heads[-1], trusted)
    return heads


def _due(ledger: Ledger, heads: tuple[SignedHead, ...], every: int, ended: Callable[[Event], bool]) -> bool:
    signed = heads[-1].head.size if heads else 0
    size = ledger.head().seq
    # A ledger that is shorter than its head does not verify, which is the first thing that signing does
    return size < signed or size - signed >= every or any(map(ended, ledger.events(after_seq=signed)))


def _signed(ledger: Ledger, keys: Keyring, heads: tuple[SignedHead, ...], held: set[int]) -> SignedHead | None:
    """Verify the ledger and sign what it is now; None when somebody else was quicker. `held` are the stores' newest numbers."""
    hashes: list[str] = []
    ledger.verify(watch=lambda event: hashes.append(event.hash))
    leaves = [entry(found) for found in hashes]
    head = TreeHead(
        number=len(heads) + 1,
        size=len(leaves),
        root=hexed(root_of(leaves)),
        chain=hashes[-1],
        ledger=hashes[0],
        at=ledger.now(),
        key=keys.key.public.id,
        previous=heads[-1].digest if heads else GENESIS,
        consistency=_proof(leaves, heads[-1].head) if heads else (),
    )
    for number in sorted(held):
        before = heads[number - 1].head
        if not grew(before, head, _proof(leaves, before)):
            raise LedgerBroken(f"ledger head {number} in a store", "is not the beginning of the ledger as it is now", REMEDY)
    signed = sign_head(head, keys.key)
    return signed if ledger.add_tree_head(signed) else None


def _proof(leaves: list[bytes], earlier: TreeHead) -> tuple[str, ...]:
    return tuple(hexed(step) for step in consistency_proof(leaves, earlier.size))


def _copy(store: ContentStore, signed: SignedHead) -> bool:
    try:
        return store.note("heads", _name(signed.head.number), signed.data)
    except IntegrityError as problem:
        raise LedgerBroken(f"ledger head {signed.head.number} in store {store.name}", "is not the one of the ledger", REMEDY) from problem


def _listed(store: ContentStore) -> tuple[int, ...]:
    """Return the numbers of a store's heads; raises LedgerBroken when one is missing."""
    numbers = _numbers(store)
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            raise LedgerBroken(f"ledger head {expected} in store {store.name}", f"is gone (the next one there is {number})", REMEDY)
    return numbers


def _check_same(signed: SignedHead, heads: tuple[SignedHead, ...]) -> None:
    number = signed.head.number
    if number > len(heads):
        raise LedgerBroken(f"ledger head {number} in the ledger", f"is gone, and {signed.place} holds it", REMEDY)
    if heads[number - 1].data != signed.data:
        raise LedgerBroken(signed.subject, "is not the one of the ledger: one of the two was signed later", REMEDY)


def _numbers(store: ContentStore) -> tuple[int, ...]:
    """Return the numbers of the heads that a store lists; what is named otherwise is no head, and says nothing of the ledger."""
    return tuple(int(name) for name in store.notes("heads") if _NUMBERED.fullmatch(name))


def _read(store: ContentStore, number: int, place: str) -> SignedHead:
    return read_head(store.noted("heads", _name(number)), place)


def _name(number: int) -> str:
    return f"{number:012}"
