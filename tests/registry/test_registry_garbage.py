"""What nothing needs is marked, and deleted once its tombstone is old; what is needed never is, whoever is killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import Busy, IntegrityError
from fleet.manifest import Manifest
from registry import entropy
from registry.garbage import mark, reachable, sweep
from registry.referrers import ATTESTATION, attach, documents, referrers
from registry.store import ContentStore

LONG_AGO, NOW = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)
SOON = NOW + timedelta(days=1)
"""Later than anything in these tests was written: all of it is old enough."""


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "store")


@pytest.fixture
def revision(store: ContentStore, tmp_path: Path) -> Callable[[str], Manifest]:
    """Store a revision of which one part is in every one, and a statement about it."""

    def make(name: str) -> Manifest:
        tree = tmp_path / name
        tree.mkdir()
        (tree / "service.py").write_text("shared by all")
        (tree / "model.bin").write_text(f"model {name}")
        made = store.put_tree(tree)
        attach(store, made.digest, ATTESTATION, f"statement about {name}".encode())
        entropy.change(store, "toy", add=[made.digest])
        return made

    return make


def collect(store: ContentStore, *needed: Manifest) -> tuple[str, ...]:
    digests = [each.digest for each in needed]
    mark(store, digests, SOON, NOW)
    return sweep(store, digests, SOON, lambda: None).deleted


def whole(store: ContentStore, manifest: Manifest) -> bool:
    found = store.manifest(manifest.digest)
    return found == manifest and all(store.get_part(part.digest) for part in found.parts())


def test_what_is_not_needed_goes_and_what_is_shared_with_what_is_needed_stays(store: ContentStore, revision):
    old, new = revision("old"), revision("new")
    entropy.change(store, "toy", remove=[old.digest])
    deleted = collect(store, new)
    shared = {part.digest for part in old.parts()} & {part.digest for part in new.parts()}
    assert len(shared) == 1
    assert not shared & set(deleted)
    assert {old.digest, *(part.digest for part in old.parts())} - shared < set(deleted)
    assert deleted[0] == old.digest, "a manifest goes before its parts"
    assert whole(store, new)
    assert documents(store, new.digest, ATTESTATION) == (b"statement about new",)
    assert referrers(store, old.digest) == ()
    assert list(entropy.members(store, "toy")) == [new.digest]
    assert store.notes("tombstones") == ()
    assert collect(store, new) == ()


def test_nothing_is_marked_while_it_is_young_nor_deleted_while_its_tombstone_is(store: ContentStore, revision):
    old = revision("old")
    assert mark(store, (), LONG_AGO, NOW).set == 0
    assert mark(store, (), SOON, NOW).set > 0
    assert mark(store, (), SOON, NOW).set == 0
    assert sweep(store, (), NOW - timedelta(seconds=1), lambda: None).deleted == ()
    assert whole(store, old)


def test_what_a_ref_names_is_needed_whoever_else_says_so(store: ContentStore, revision):
    served = revision("served")
    store.point("toy", served.digest, epoch=1)
    assert {served.digest, *(part.digest for part in served.parts())} <= reachable(store, ())
    collect(store)
    assert whole(store, served)


def test_what_is_needed_again_loses_its_tombstone(store: ContentStore, revision):
    back = revision("back")
    entropy.change(store, "toy", remove=[back.digest])
    marked = mark(store, (), SOON, NOW)
    assert marked.set == len(store.notes("tombstones"))
    swept = sweep(store, [back.digest], SOON, lambda: None)
    assert (swept.needed > 0, whole(store, back)) == (True, True)
    assert back.digest not in swept.deleted
    mark(store, (), SOON, NOW)
    assert mark(store, [back.digest], SOON, NOW).taken_away > 0
    assert back.digest.removeprefix("sha256:") not in store.notes("tombstones")


def test_the_parts_of_a_manifest_that_nothing_needs_yet_stay(store: ContentStore, revision, tmp_path: Path):
    """Whoever packaged it was killed before the ledger had it: some of its parts are old and have tombstones, it has none."""
    old = revision("old")
    entropy.change(store, "toy", remove=[old.digest])
    mark(store, (), SOON, NOW)
    packaged = tmp_path / "packaged"
    packaged.mkdir()
    (packaged / "service.py").write_text("shared by all")
    fresh = store.put_tree(packaged)
    sweep(store, (), SOON, lambda: None)
    assert whole(store, fresh)
    assert not store.has_blob(old.digest)


def test_the_guard_ends_it_at_once(store: ContentStore, revision):
    revision("old")
    mark(store, (), SOON, NOW)
    before = {found.path for found in store.objects()}

    def guard() -> None:
        raise Busy("toy-7", "was asked for meanwhile")

    with pytest.raises(Busy):
        sweep(store, (), SOON, guard)
    assert {found.path for found in store.objects()} == before


@pytest.mark.parametrize("damage", ["manifest", "tree"])
def test_nothing_is_marked_or_deleted_where_nobody_knows_what_is_needed(store: ContentStore, revision, damage: str):
    old, new = revision("old"), revision("new")
    mark(store, (), SOON, NOW)
    root = entropy.root(store, "toy")
    assert root is not None
    wrong = new.digest if damage == "manifest" else root.digest
    file = Path(store.name) / "blobs" / "sha256" / wrong.removeprefix("sha256:")
    file.write_bytes(b'{"files":[ and so on')
    for act in (lambda: mark(store, [new.digest], SOON, NOW), lambda: sweep(store, [new.digest], SOON, lambda: None)):
        with pytest.raises(IntegrityError):
            act()
    assert whole(store, old)


def test_a_tombstone_that_says_nothing_is_taken_away(store: ContentStore, revision):
    old = revision("old")
    store.note("tombstones", old.digest.removeprefix("sha256:"), b"when?")
    assert sweep(store, (), SOON, lambda: None).deleted == ()
    assert store.notes("tombstones") == ()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from registry.garbage import sweep
from registry.store import ContentStore

class Mortal(ContentStore):
    deletes = 0
    def _delete(self, path):
        self.deletes += 1
        if self.deletes == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        super()._delete(path)

sweep(Mortal.at(Path(sys.argv[1])), [sys.argv[3]], datetime(2100, 1, 1, tzinfo=UTC), lambda: None)
"""


@pytest.mark.parametrize("delete", [1, 2, 3, 4, 7])
def test_a_sweep_killed_before_any_deletion_leaves_no_manifest_without_its_parts(delete: int, store, revision, start_python):
    old, new = revision("old"), revision("new")
    entropy.change(store, "toy", remove=[old.digest])
    mark(store, [new.digest], SOON, NOW)
    child = start_python(KILLED, store.name, str(delete), new.digest)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert whole(store, new)
    assert not store.has_blob(old.digest) or whole(store, old)
    collect(store, new)
    assert not store.has_blob(old.digest)
    assert store.notes("tombstones") == ()
    assert whole(store, new)
