"""A blob that is wrong or missing comes back from whichever peer has its bytes, and the bad copy is kept aside."""

from __future__ import annotations

import random
import signal
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from fleet.errors import IntegrityError, OperationFailed, Refused, Unreachable
from fleet.manifest import Manifest, manifest_of
from registry.lines import Line
from registry.referrers import ATTESTATION, attach, documents
from registry.repair import bring, mendable, repair
from registry.replicate import replicate
from registry.scrub import Fault, Kind, Pace, ScrubIndex, scrub
from registry.store import ContentStore


@pytest.fixture
def origin(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "origin")


@pytest.fixture
def region(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "region")


@pytest.fixture
def peer(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "peer")


@pytest.fixture
def manifest(origin: ContentStore, region: ContentStore, peer: ContentStore, tmp_path: Path) -> Manifest:
    """A revision that the origin, a region and a peer have, with a statement about it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(random.Random(name).randbytes(10_000))
    made = origin.put_tree(tree)
    attach(origin, made.digest, ATTESTATION, b"{}")
    for store in (region, peer):
        replicate(made.digest, origin, store)
    return made


def file_of(store: ContentStore, digest: str) -> Path:
    return Path(store.name) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def flip(file: Path) -> bytes:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return bytes(data)


def faults(store: ContentStore, tmp_path: Path) -> tuple[Fault, ...]:
    now = datetime.now(UTC)
    with ScrubIndex.at(tmp_path / "index.db") as index:
        return scrub(store, index, Pace(0), now, lambda: now).faults


def test_a_repair_waits_for_the_line_to_the_store(region, peer, manifest: Manifest, tmp_path: Path):
    part = next(manifest.parts())
    sizes: list[int] = []

    class Watched(Line):
        def wait(self, size: int, stopped: Event) -> None:
            sizes.append(size)

    line = Watched(tmp_path / "line", 1)
    file_of(region, part.digest).unlink()
    repair(part.digest, region, [peer], line)
    assert sum(sizes) == 2 * part.size, "sent, and read back"
    sizes.clear()
    bring(manifest.digest, ContentStore.at(tmp_path / "empty"), [peer], line)
    assert sum(sizes) == 2 * sum(each.size for each in manifest.parts())


def test_a_wrong_blob_comes_from_a_peer_and_the_bad_copy_is_kept_byte_for_byte(region, peer, manifest: Manifest, tmp_path: Path):
    part = next(manifest.parts())
    bad = flip(file_of(region, part.digest))
    done = repair(part.digest, region, [peer])
    assert (done.digest, done.source) == (part.digest, peer.name)
    assert region.get_blob(part.digest) == peer.get_blob(part.digest)
    assert done.quarantined in region.notes("quarantine")
    assert region.noted("quarantine", str(done.quarantined)) == bad
    assert faults(region, tmp_path) == ()
    region.fetch_tree(manifest.digest, tmp_path / "revision")
    assert manifest_of(tmp_path / "revision") == manifest


def test_one_right_peer_is_enough_among_wrong_ones(origin, region, peer, manifest: Manifest):
    part = next(manifest.parts())
    for store in (region, origin):
        flip(file_of(store, part.digest))
    assert repair(part.digest, region, [origin, peer]).source == peer.name
    assert repair(part.digest, origin, [region, peer]).source == region.name


def test_what_no_peer_has_is_moved_aside_and_told(origin, region, manifest: Manifest):
    part = next(manifest.parts())
    for store in (region, origin):
        flip(file_of(store, part.digest))
    with pytest.raises(IntegrityError, match=r"(?s)no peer has it.*quarantine/"):
        repair(part.digest, region, [origin])
    assert not region.has_blob(part.digest)
    assert len(region.notes("quarantine")) == 1
    assert origin.notes("quarantine") == ()


def test_a_peer_that_does_not_answer_is_asked_again_later(region, manifest: Manifest, tmp_path: Path):
    class Away(ContentStore):
        def get_blob(self, digest: str) -> bytes:
            raise Unreachable("store", "does not answer")

    part = next(manifest.parts())
    flip(file_of(region, part.digest))
    with pytest.raises(Unreachable):
        repair(part.digest, region, [Away.at(tmp_path / "away")])


def test_a_blob_that_is_right_is_left_alone(region, peer, manifest: Manifest):
    part = next(manifest.parts())
    assert region.quarantine(part.digest) is None
    assert repair(part.digest, region, [peer]).quarantined is None
    assert region.notes("quarantine") == ()


def test_a_manifest_comes_back_behind_all_its_parts(region, peer, manifest: Manifest):
    """At no moment is it there without its parts, whatever else was lost."""
    parts = list(manifest.parts())
    file_of(region, parts[0].digest).unlink()
    flip(file_of(region, parts[1].digest))
    flip(file_of(region, manifest.digest))
    written: list[str] = []

    class Watched(ContentStore):
        def send_checked(self, digest: str, data: bytes) -> bool:
            new = super().send_checked(digest, data)
            written.extend([digest] if new else [])
            return new

    repair(manifest.digest, Watched.at(Path(region.name)), [peer])
    assert set(written[:2]) == {parts[0].digest, parts[1].digest}
    assert written[2] == manifest.digest
    assert region.manifest(manifest.digest) == manifest


def test_a_revision_that_is_lacking_is_brought_with_what_is_beside_it(origin, manifest: Manifest, tmp_path: Path):
    empty, half = ContentStore.at(tmp_path / "empty"), ContentStore.at(tmp_path / "half")
    replicate(manifest.digest, origin, half)
    file_of(half, next(manifest.parts()).digest).unlink()
    assert bring(manifest.digest, empty, [half, origin]) == origin.name
    assert documents(empty, manifest.digest, ATTESTATION) == (b"{}",)
    with pytest.raises(IntegrityError, match="has all of it"):
        bring(manifest.digest, ContentStore.at(tmp_path / "another"), [half])


def test_parts_are_mended_before_what_refs_name():
    part = Fault(Kind.WRONG, f"blobs/sha256/{'f' * 64}", "wrong", (f"sha256:{'a' * 64}",))
    whole = Fault(Kind.MISSING, f"blobs/sha256/{'a' * 64}", "is missing", ("refs/toy/000000000001-000000000001",))
    alien = Fault(Kind.ALIEN, "notes.txt", "is none of ours")
    assert mendable([whole, alien, part]) == (part, whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from registry.repair import repair
from registry.store import ContentStore

class Mortal(ContentStore):
    acts = 0
    def _act(self):
        self.acts += 1
        if self.acts == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
    def _create(self, path, data):
        self._act()
        return super()._create(path, data)
    def _delete(self, path):
        self._act()
        super()._delete(path)

repair(sys.argv[3], Mortal.at(Path(sys.argv[1])), [ContentStore.at(Path(sys.argv[2]))])
"""


@pytest.mark.parametrize("act", [1, 2, 3])
def test_a_repair_killed_before_any_act_is_finished_by_the_next(act: int, region, peer, manifest: Manifest, tmp_path: Path, start_python):
    part = next(manifest.parts())
    bad = flip(file_of(region, part.digest))
    child = start_python(KILLED, region.name, peer.name, part.digest, str(act))
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    if region.has_blob(part.digest):
        with pytest.raises(IntegrityError):
            region.get_blob(part.digest)
    repair(part.digest, region, [peer])
    assert region.get_blob(part.digest) == peer.get_blob(part.digest)
    (kept,) = region.notes("quarantine")
    assert region.noted("quarantine", kept) == bad
    assert faults(region, tmp_path) == ()


def test_a_blob_too_large_to_be_moved_is_told_with_what_to_do(region, manifest: Manifest):
    part = next(manifest.parts())
    with file_of(region, part.digest).open("r+b") as file:
        file.truncate(65 << 20)
    with pytest.raises(OperationFailed, match="by hand"):
        region.quarantine(part.digest)


def test_nothing_is_deleted_that_has_no_tombstone(region, manifest: Manifest):
    part = next(manifest.parts())
    with pytest.raises(Refused, match="no tombstone"):
        region.delete_blob(part.digest)
    region.note("tombstones", part.digest.removeprefix("sha256:"), b"{}")
    region.delete_blob(part.digest)
    region.unmark(part.digest)
    assert not region.has_blob(part.digest)
    assert region.notes("tombstones") == ()
