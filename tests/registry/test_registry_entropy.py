"""Two stores are compared by the roots of their trees of revisions, and only what differs is read."""

from __future__ import annotations

import hashlib
import math
import threading
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from fleet.canonical import digest_of
from fleet.errors import IntegrityError
from registry import entropy
from registry.entropy import MOST, Differences, Node
from registry.store import ContentStore, Ref

NONE = frozenset[str]()


class Counted(ContentStore):
    """A store that counts the objects that were read from it and listed of it."""

    reads = 0
    listed = 0

    def get_blob(self, digest: str) -> bytes:
        self.reads += 1
        return super().get_blob(digest)

    def resolve(self, name: str) -> Ref | None:
        self.reads += 1
        self.listed += len(self._generations(name))
        return super().resolve(name)


def digests(count: int, seed: str = "revision") -> list[str]:
    return [f"sha256:{hashlib.sha256(f'{seed} {number}'.encode()).hexdigest()}" for number in range(count)]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "store") if request.param == "local" else ContentStore(MemoryStore(), "memory")


def memory(name: str = "memory") -> Counted:
    return Counted(MemoryStore(), name)


def root_of(store: ContentStore) -> str:
    found = entropy.root(store, "toy")
    assert found is not None
    return found.digest


def test_of_ten_thousand_revisions_three_that_differ_are_found_without_a_listing():
    total, changed = 10_000, 3
    first, second = memory("first"), memory("second")
    there = digests(total)
    entropy.replace(first, "toy", there)
    entropy.replace(second, "toy", there)
    lost, only_there = [there[17], there[4_711]], digests(1, "another")[0]
    entropy.change(second, "toy", add=[only_there], remove=lost)
    for store in (first, second):
        store.reads = store.listed = 0
    assert entropy.differences(first, second, "toy") == Differences(frozenset(lost), frozenset([only_there]))
    for store in (first, second):
        assert store.listed <= 2
        assert store.reads + store.listed <= changed * math.log2(total) + 4
    # Measured here: 1 root, 1 node at the top, and at most three nodes for each that differs
    assert first.reads + second.reads <= 2 * (2 + 3 * changed)


def test_two_stores_that_hold_the_same_are_compared_by_two_objects():
    first, second = memory(), memory()
    entropy.replace(first, "toy", digests(2_000))
    for digest in digests(2_000):
        entropy.change(second, "toy", add=[digest])
    first.reads = second.reads = 0
    assert entropy.differences(first, second, "toy") == Differences(NONE, NONE)
    assert (first.reads, second.reads) == (1, 1)


@pytest.mark.parametrize("count", [0, 1, MOST, MOST + 1, 300, 5_000])
def test_the_shape_follows_from_what_is_in_it_and_not_from_the_way_there(count: int):
    wanted, extra = digests(count), digests(400, "extra")
    built, grown, shrunk = memory(), memory(), memory()
    entropy.replace(built, "toy", wanted)
    for start in range(0, max(count, 1), 37):
        entropy.change(grown, "toy", add=reversed(wanted[start : start + 37]))
    entropy.replace(shrunk, "toy", [*extra, *wanted])
    entropy.change(shrunk, "toy", remove=extra)
    assert root_of(built) == root_of(grown) == root_of(shrunk)
    assert list(entropy.members(built, "toy")) == sorted(wanted)


def test_what_changes_nothing_writes_nothing(store: ContentStore):
    assert entropy.change(store, "toy", add=digests(40)) is True
    before = sorted(found.path for found in store.objects())
    assert entropy.change(store, "toy", add=digests(3)) is False
    assert entropy.change(store, "toy", remove=digests(3, "other")) is False
    assert entropy.replace(store, "toy", digests(40)) is False
    assert sorted(found.path for found in store.objects()) == before


def test_looking_up_the_root_lists_two_objects_however_often_it_moved(store: ContentStore):
    for digest in digests(30):
        entropy.change(store, "toy", add=[digest])
    assert len(list(store.objects("refs/trees/toy"))) == 2
    found = entropy.root(store, "toy")
    assert found is not None
    assert found.sequence == 30


def test_a_tree_that_nobody_made_is_empty(store: ContentStore):
    other = memory()
    assert list(entropy.members(store, "toy")) == []
    assert entropy.differences(store, other, "toy") == Differences(NONE, NONE)
    entropy.change(other, "toy", add=digests(60))
    assert entropy.differences(store, other, "toy") == Differences(NONE, frozenset(digests(60)))
    assert entropy.differences(other, store, "toy") == Differences(frozenset(digests(60)), NONE)
    assert entropy.root(store, "other") is None


def test_many_who_add_at_once_lose_nothing(store: ContentStore):
    wanted = digests(48)

    def add(some: list[str]) -> None:
        for digest in some:
            entropy.change(store, "toy", add=[digest])

    adding = [threading.Thread(target=add, args=(wanted[start::4],)) for start in range(4)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    assert list(entropy.members(store, "toy")) == sorted(wanted)
    built = memory()
    entropy.replace(built, "toy", wanted)
    assert root_of(store) == root_of(built)


def test_one_who_was_overtaken_by_two_is_told_so(store: ContentStore):
    """A generation that was deleted can be created again; it counts for nothing, for the highest does."""
    nodes = [f"{number}".encode() for number in range(5)]
    for data in nodes:
        store.put_blob(digest_of(data), data)
    first = store.move("trees/toy", digest_of(nodes[0]), None)
    late = first
    for data in nodes[1:4]:
        first = store.move("trees/toy", digest_of(data), first)
        assert first is not None
    assert store.move("trees/toy", digest_of(nodes[4]), late) is None
    assert store.resolve("trees/toy") == first


@pytest.mark.parametrize("damage", ["gone", "rotten"])
def test_a_tree_with_a_damaged_node_is_told_and_made_anew(damage: str, tmp_path: Path):
    store, other = ContentStore.at(tmp_path / "store"), memory()
    wanted = digests(200)
    for each in (store, other):
        entropy.replace(each, "toy", wanted)
    entropy.change(other, "toy", remove=wanted[:1])
    node = next(iter(entropy.nodes(store, "toy")))
    file = tmp_path / "store" / "blobs" / "sha256" / node.removeprefix("sha256:")
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"rotten")
    for use in (lambda: entropy.differences(store, other, "toy"), lambda: entropy.change(store, "toy", add=digests(1, "new"))):
        with pytest.raises(IntegrityError, match=node):
            use()
    store.quarantine(node)
    entropy.replace(store, "toy", wanted)
    assert entropy.differences(store, other, "toy") == Differences(frozenset(wanted[:1]), NONE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"below":{},"digests":["latest"],"mediaType":"application/vnd.convoy.revisions.v1+json"}',
        b'{"below":{"0":{"digest":"x","size":1}},"digests":[],"mediaType":"application/vnd.convoy.revisions.v1+json"}',
        b'{"below":[],"digests":[],"mediaType":"application/vnd.convoy.revisions.v1+json"}',
        b'{"below":{},"digests":[],"mediaType":"text/plain"}',
    ],
)
def test_what_is_no_node_is_refused(data: bytes):
    with pytest.raises(IntegrityError, match="cannot be read"):
        Node.from_bytes(data)


def test_a_node_comes_back_as_it_was():
    node = Node(tuple(sorted(digests(3))))
    assert Node.from_bytes(node.to_bytes()) == node


def test_of_two_who_move_one_name_at_once_exactly_one_does_a_thousand_times(store: ContentStore):
    for data in (b"one", b"two"):
        store.put_blob(digest_of(data), data)
    both, rounds = threading.Barrier(2), 1000
    won: dict[bytes, list[Ref | None]] = {b"one": [], b"two": []}

    def move(data: bytes) -> None:
        for _ in range(rounds):
            both.wait(60)
            before = store.resolve("trees/toy")
            both.wait(60)
            won[data].append(store.move("trees/toy", digest_of(data), before))

    moving = [threading.Thread(target=move, args=(data,)) for data in won]
    for thread in moving:
        thread.start()
    for thread in moving:
        thread.join()
    assert [sum(ref is not None for ref in pair) for pair in zip(*won.values(), strict=True)] == [1] * rounds
    last = store.resolve("trees/toy")
    assert last is not None
    assert last.sequence == rounds
    assert last in (won[b"one"][-1], won[b"two"][-1])
