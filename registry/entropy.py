"""The revisions that a store holds, as a Merkle tree whose nodes are blobs of the store: two stores are compared by their roots.

A node with more than sixteen revisions below it divides them by the next hex digit of their digests, any other lists them.
So its shape follows from what is in it and not from the order in which that came (unlike a log's, `registry/merkle.py`), and
two stores that hold the same have the same root. Where they do not, only the nodes that differ are read: about log16 of
the number of revisions for each that differs, and never a listing.

The root is what the ref `trees/<name>` points to; every change is a new generation of it, made behind the one that was read.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fleet.canonical import canonical_json, digest_of
from fleet.errors import Busy, IntegrityError, UnknownName
from registry.store import ContentStore, Ref

MEDIA_TYPE = "application/vnd.convoy.revisions.v1+json"
MOST = 16
"""Revisions that a node lists by itself."""
TRIES = 50
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REMEDY = "The next anti-entropy run makes the tree anew."


@dataclass(frozen=True, slots=True)
class Branch:
    """What stands below one hex digit: the node's digest and how many revisions are below it."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """A leaf with the digests of revisions, sorted, or what is below each hex digit."""

    digests: tuple[str, ...] = ()
    below: Mapping[str, Branch] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many revisions are in it and below it."""
        return len(self.digests) + sum(branch.size for branch in self.below.values())

    def to_bytes(self) -> bytes:
        """Return the bytes that its digest is taken over."""
        below = {digit: {"digest": branch.digest, "size": branch.size} for digit, branch in self.below.items()}
        return canonical_json({"mediaType": MEDIA_TYPE, "digests": list(self.digests), "below": below})

    @classmethod
    def from_bytes(cls, data: bytes) -> Node:
        """Read a node back; raises IntegrityError when it is none."""
        try:
            document = json.loads(data)
            below = {str(digit): Branch(str(each["digest"]), int(each["size"])) for digit, each in document["below"].items()}
            node = cls(tuple(document["digests"]), below)
            named = [*node.digests, *(branch.digest for branch in below.values())]
            if node.to_bytes() != data or not all(map(_DIGEST.fullmatch, named)):
                raise ValueError("it is not as Convoy writes it")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise IntegrityError("node of a tree of revisions", f"cannot be read ({problem})", _REMEDY) from problem
        return node


EMPTY = Node()


@dataclass(frozen=True, slots=True)
class Differences:
    """The revisions that only one of two stores has."""

    only_first: frozenset[str]
    only_second: frozenset[str]


def root(store: ContentStore, name: str) -> Ref | None:
    """Return what stands for all revisions of a name in a store; None before the first one."""
    for _ in range(TRIES):
        try:
            return store.resolve(_ref(name))
        except UnknownName:
            # It was deleted between listing and reading, for it had moved on
            continue
    raise Busy(f"tree '{name}' in store {store.name}", "moves faster than it can be read", "Try again.")


def change(store: ContentStore, name: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> bool:
    """Take revisions into a store's tree and others out; returns whether that changed it.

    May be repeated, and called by several at once: whoever is overtaken begins again with what is there then. Raises
    IntegrityError when a node is wrong or missing.
    """
    come, go = frozenset(add), frozenset(remove)
    for _ in range(TRIES):
        before = root(store, name)
        old = _read(store, before.digest) if before else EMPTY
        new = _changed(store, old, come, go, 0)
        digest = _put(store, new)
        if before is not None and before.digest == digest:
            return False
        if store.move(_ref(name), digest, before) is not None:
            return True
    raise Busy(f"tree '{name}' in store {store.name}", "moves faster than it can be changed", "Try again.")


def replace(store: ContentStore, name: str, digests: Iterable[str]) -> bool:
    """Have a store's tree hold exactly these revisions, whatever it was before; returns whether that changed it."""
    wanted = _put(store, _built(store, frozenset(digests), 0))
    for _ in range(TRIES):
        before = root(store, name)
        if before is not None and before.digest == wanted:
            return False
        if store.move(_ref(name), wanted, before) is not None:
            return True
    raise Busy(f"tree '{name}' in store {store.name}", "moves faster than it can be changed", "Try again.")


def members(store: ContentStore, name: str) -> Iterator[str]:
    """Yield every revision of a store's tree, sorted; raises IntegrityError when a node is wrong or missing."""
    found = root(store, name)
    if found is not None:
        yield from _members(store, _read(store, found.digest))


def nodes(store: ContentStore, name: str) -> Iterator[str]:
    """Yield the digest of every node of a store's tree; raises IntegrityError when one is wrong or missing."""
    found = root(store, name)
    if found is not None:
        yield from _nodes(store, found.digest)


def differences(first: ContentStore, second: ContentStore, name: str) -> Differences:
    """Return what only one of two stores has, reading no node that both have; raises IntegrityError for a wrong or missing one."""
    ours, theirs = root(first, name), root(second, name)
    only_first: set[str] = set()
    only_second: set[str] = set()
    mine, other = ours.digest if ours else None, theirs.digest if theirs else None
    pairs: list[tuple[str | None, str | None]] = [(mine, other)] if mine != other else []
    while pairs:
        here, there = pairs.pop()
        left = _read(first, here) if here else EMPTY
        right = _read(second, there) if there else EMPTY
        if left.below and right.below:
            pairs += _unlike(left, right)
        else:
            # One of the two is small: what is below the other is more than that anyway
            in_left, in_right = set(_members(first, left)), set(_members(second, right))
            only_first |= in_left - in_right
            only_second |= in_right - in_left
    return Differences(frozenset(only_first), frozenset(only_second))


def _unlike(left: Node, right: Node) -> list[tuple[str | None, str | None]]:
    digits = sorted({*left.below, *right.below})
    pairs = [(left.below.get(digit), right.below.get(digit)) for digit in digits]
    return [(one.digest if one else None, two.digest if two else None) for one, two in pairs if one != two]


def _changed(store: ContentStore, node: Node, add: Collection[str], remove: Collection[str], depth: int) -> Node:
    if not add and not remove:
        return node
    if not node.below:
        return _built(store, (frozenset(node.digests) | frozenset(add)) - frozenset(remove), depth)
    below = dict(node.below)
    come, go = _by_digit(add, depth), _by_digit(remove, depth)
    for digit in {*come, *go}:
        old = _read(store, below[digit].digest) if digit in below else EMPTY
        new = _changed(store, old, come.get(digit, ()), go.get(digit, ()), depth + 1)
        if new.size:
            below[digit] = Branch(_put(store, new), new.size)
        else:
            below.pop(digit, None)
    changed = Node(below=below)
    return changed if changed.size > MOST else Node(tuple(_members(store, changed)))


def _built(store: ContentStore, digests: Collection[str], depth: int) -> Node:
    if len(digests) <= MOST:
        return Node(tuple(sorted(digests)))
    below = {digit: _built(store, some, depth + 1) for digit, some in sorted(_by_digit(digests, depth).items())}
    return Node(below={digit: Branch(_put(store, node), node.size) for digit, node in below.items()})


def _members(store: ContentStore, node: Node) -> Iterator[str]:
    yield from node.digests
    for _, branch in sorted(node.below.items()):
        yield from _members(store, _read(store, branch.digest))


def _nodes(store: ContentStore, digest: str) -> Iterator[str]:
    yield digest
    for branch in _read(store, digest).below.values():
        yield from _nodes(store, branch.digest)


def _by_digit(digests: Collection[str], depth: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for digest in digests:
        found[digest.removeprefix("sha256:")[depth]].append(digest)
    return found


def _read(store: ContentStore, digest: str) -> Node:
    return Node.from_bytes(store.get_part(digest))


def _put(store: ContentStore, node: Node) -> str:
    data = node.to_bytes()
    digest = digest_of(data)
    store.put_blob(digest, data)
    return digest


def _ref(name: str) -> str:
    return f"trees/{name}"
