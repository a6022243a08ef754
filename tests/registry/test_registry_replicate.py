"""A revision is replicated part by part, read back byte by byte, and nothing that was done is done again."""

from __future__ import annotations

import random
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import obstore
import pytest
from obstore.store import LocalStore

from fleet.cutting import PART_BYTES, in_blocks
from fleet.errors import IntegrityError
from fleet.manifest import Entry, Manifest, Part, manifest_of
from registry.lines import LONGEST_AHEAD, Line
from registry.receipts import Receipts
from registry.replicate import STREAMS, How, Progress, Shared, replicate
from registry.store import ContentStore, Stored


@pytest.fixture
def origin(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "origin")


@pytest.fixture
def region(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "region")


@pytest.fixture
def manifest(origin: ContentStore, tmp_path: Path) -> Manifest:
    """A revision of some twenty parts."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "weights.bin").write_bytes(random.Random(7).randbytes(250_000))
    (root / "bento.yaml").write_text("name: employment\n")
    (root / "empty").touch()
    return origin.put_tree(root)


def blob_file(store: ContentStore, digest: str) -> Path:
    return Path(store.name) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def flip_one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def with_receipts(tmp_path: Path, store: ContentStore) -> How:
    return How(receipts=Receipts(tmp_path / "receipts", store.name))


def test_what_is_there_is_not_sent_and_all_of_it_is_read_back(origin, region, manifest: Manifest):
    parts = list(manifest.parts())
    region.put_blob(parts[0].digest, origin.get_blob(parts[0].digest))
    done = replicate(manifest.digest, origin, region)
    assert (done.copied, done.present, done.spared) == (len(parts) - 1, 1, 0)
    assert (done.bytes, done.read) == (manifest.size - parts[0].size, manifest.size)
    assert region.manifest(manifest.digest) == manifest
    again = replicate(manifest.digest, origin, region)
    assert (again.copied, again.bytes, again.read) == (0, 0, manifest.size)


def test_what_was_read_back_and_has_not_changed_is_not_read_again(origin, region, manifest: Manifest, tmp_path: Path):
    first = replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))
    again = replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))
    assert (first.read, first.spared) == (manifest.size, 0)
    assert (again.read, again.spared, again.bytes) == (0, manifest.size, 0)
    shutil.rmtree(tmp_path / "receipts")
    assert replicate(manifest.digest, origin, region, with_receipts(tmp_path, region)).read == manifest.size


def test_a_receipt_does_not_speak_for_a_blob_that_was_written_since(origin, region, manifest: Manifest, tmp_path: Path):
    replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))
    part = max(manifest.parts(), key=lambda found: found.size)
    flip_one_byte(blob_file(region, part.digest))
    with pytest.raises(IntegrityError, match=f"(?s){part.digest}.*{region.name}"):
        replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))


def test_a_receipt_does_not_speak_for_a_blob_that_is_gone_nor_for_another_store(origin, region, manifest: Manifest, tmp_path: Path):
    replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))
    part = max(manifest.parts(), key=lambda found: found.size)
    blob_file(region, part.digest).unlink()
    mended = replicate(manifest.digest, origin, region, with_receipts(tmp_path, region))
    assert (mended.copied, mended.bytes, mended.read) == (1, part.size, part.size)
    other = ContentStore.at(tmp_path / "other")
    assert replicate(manifest.digest, origin, other, with_receipts(tmp_path, other)).read == manifest.size


def test_a_wrong_byte_in_either_store_stops_the_copy_before_its_manifest(origin, region, manifest: Manifest, tmp_path: Path):
    part = max(manifest.parts(), key=lambda found: found.size)
    region.put_blob(part.digest, origin.get_blob(part.digest))
    flip_one_byte(blob_file(region, part.digest))
    with pytest.raises(IntegrityError, match=f"(?s){part.digest}.*{region.name}"):
        replicate(manifest.digest, origin, region)
    assert not region.has_blob(manifest.digest)
    flip_one_byte(blob_file(origin, part.digest))
    other = ContentStore.at(tmp_path / "other")
    with pytest.raises(IntegrityError, match=f"(?s){part.digest}.*{origin.name}"):
        replicate(manifest.digest, origin, other)
    assert not other.has_blob(part.digest)
    assert not other.has_blob(manifest.digest)


KILLED = """
import os, signal, sys, threading
from pathlib import Path
from registry.replicate import replicate
from registry.store import ContentStore

class Mortal(ContentStore):
    "Tells each put as it begins and ends, and kills its process instead of the one with the given number."
    puts, lock = 0, threading.Lock()
    def send_checked(self, digest, data):
        with self.lock:
            self.puts += 1
            os.write(1, f"begins {digest} {len(data)}\\n".encode())
            if self.puts == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
        return super().send_checked(digest, data)

replicate(sys.argv[4], ContentStore.at(Path(sys.argv[1])), Mortal.at(Path(sys.argv[2])))
"""


def test_killed_at_every_boundary_it_goes_on_and_at_most_a_parts_worth_is_sent_again(origin, manifest: Manifest, tmp_path, start_python):
    parts = list(manifest.parts())
    for put in range(1, len(parts) + 2):
        target = ContentStore.at(tmp_path / f"region-{put}")
        child = start_python(KILLED, origin.name, target.name, str(put), manifest.digest)
        output, errors = child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL, errors
        assert not target.has_blob(manifest.digest), "a reader would have met a manifest without its parts"
        begun = {digest: int(size) for _, digest, size in map(str.split, output.splitlines())}
        there = {part.digest for part in parts if target.has_blob(part.digest)}
        done = replicate(manifest.digest, origin, target)
        assert (done.copied, done.present) == (len(parts) - len(there), len(there))
        twice = [size for digest, size in begun.items() if digest not in there and digest != manifest.digest]
        assert sum(twice) <= PART_BYTES
        assert len(twice) <= STREAMS
        assert target.manifest(manifest.digest) == manifest
        assert all(target.read_back(part.digest).size == part.size for part in parts)


def test_of_large_parts_one_alone_is_under_way(origin, tmp_path: Path):
    """So that one who is killed sends one of them again at most."""
    manifest = large(origin, tmp_path / "large", 3)
    under_way, most, lock = 0, 0, threading.Lock()

    class Watched(ContentStore):
        def send_checked(self, digest: str, data: bytes) -> bool:
            nonlocal under_way, most
            with lock:
                under_way += len(data)
                most = max(most, under_way)
            try:
                return super().send_checked(digest, data)
            finally:
                with lock:
                    under_way -= len(data)

    assert replicate(manifest.digest, origin, Watched.at(tmp_path / "region")).copied == 3
    shutil.rmtree(tmp_path)
    assert most <= PART_BYTES


def large(store: ContentStore, root: Path, parts: int) -> Manifest:
    """A file in parts of 32 MiB, as an earlier Convoy has cut it."""
    root.mkdir()
    with (root / "sparse.bin").open("wb") as file:
        for number in range(parts):
            file.seek(number * PART_BYTES)
            file.write(str(number).encode())
        file.truncate(parts * PART_BYTES)
    manifest = manifest_of(root, in_blocks)
    with (root / "sparse.bin").open("rb") as file:
        for part in in_blocks(file, 0):
            store.put_blob(next(found.digest for found in manifest.entries[0].parts[file.tell() // PART_BYTES - 1 :]), part)
    store.put_blob(manifest.digest, manifest.to_bytes())
    return manifest


def test_copies_to_four_regions_at_once_stay_within_their_memory(origin, tmp_path: Path, start_python):
    manifest = large(origin, tmp_path / "large", 6)
    shutil.rmtree(tmp_path / "large")
    script = """
import sys, threading
from pathlib import Path
from registry.replicate import Shared, replicate
from registry.store import ContentStore
root = Path(sys.argv[1])
source = Shared(ContentStore.at(root / "origin"))
copies = [threading.Thread(target=replicate, args=(sys.argv[2], source, ContentStore.at(root / name))) for name in "abcd"]
for copy in copies: copy.start()
for copy in copies: copy.join()
print(all(ContentStore.at(root / name).has_blob(sys.argv[2]) for name in "abcd"))
status = Path("/proc/self/status").read_text()
# Not ru_maxrss, which begins with what the process had that started this one
print(int(status.partition("VmHWM:")[2].split()[0]) >> 10)
"""
    child = start_python(script, str(tmp_path), manifest.digest)
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    for used in ("origin", "a", "b", "c", "d"):
        shutil.rmtree(tmp_path / used)
    whole, peak = output.split()
    assert whole == "True"
    assert int(peak) < 300, f"{peak} MiB"


class WrongBytes(ContentStore):
    """Lists and says all as it should be, and gives other bytes."""

    def _fetched(self, path: str, subject: str) -> tuple[obstore.Bytes, Stored]:
        found, stored = super()._fetched(path, subject)
        return obstore.Bytes(bytes([found.to_bytes()[0] ^ 1]) + found.to_bytes()[1:]), stored


class Truncated(ContentStore):
    """Ends in the midst of an answer."""

    def _fetched(self, path: str, subject: str) -> tuple[obstore.Bytes, Stored]:
        found, stored = super()._fetched(path, subject)
        return obstore.Bytes(found.to_bytes()[: len(found) // 2]), stored


class Stale(ContentStore):
    """Still lists what is long gone."""

    ghosts: tuple[Stored, ...] = ()

    def objects(self, below: str = ""):
        yield from self.ghosts
        yield from super().objects(below)


@pytest.mark.parametrize("kind", [WrongBytes, Truncated, Stale])
def test_a_store_that_lies_is_found_out_by_reading_back(kind: type[ContentStore], origin, manifest: Manifest, tmp_path: Path):
    target = kind(LocalStore(tmp_path / "liar", mkdir=True), "liar")
    part = max(manifest.parts(), key=lambda found: found.size)
    if isinstance(target, Stale):
        known = next(stored for stored in origin.objects("blobs") if stored.path.endswith(part.digest.removeprefix("sha256:")))
        target.ghosts = (replace(known, etag="gone"),)
    how = with_receipts(tmp_path, target)
    with pytest.raises(IntegrityError, match="store liar"):
        replicate(manifest.digest, origin, target, how)
    with pytest.raises(IntegrityError, match="store liar"):
        replicate(manifest.digest, origin, target, how)
    assert not ContentStore.at(tmp_path / "liar").has_blob(manifest.digest)


def test_a_part_that_claims_more_than_any_has_is_refused_and_not_waited_for(origin, region):
    claims = Manifest((Entry("weights.bin", 0o644, 1 << 40, "sha256:" + "0" * 64, (Part("sha256:" + "1" * 64, 1 << 40),)),))
    origin.put_blob(claims.digest, claims.to_bytes())
    with pytest.raises(IntegrityError, match="more than"):
        replicate(claims.digest, origin, region)


def test_progress_is_told_after_each_part_and_ends_with_everything(origin, region, manifest: Manifest):
    told: list[Progress] = []
    replicate(manifest.digest, origin, region, How(tell=told.append))
    assert len(told) == len(list(manifest.parts()))
    assert [found.done for found in told] == sorted(found.done for found in told)
    assert told[-1] == Progress(manifest.size, manifest.size, manifest.size)


def test_a_source_that_is_shared_reads_each_part_once_and_tells_all_of_an_error(origin, manifest: Manifest, tmp_path: Path):
    reads: list[str] = []

    class Counting(ContentStore):
        def get_part(self, digest: str) -> bytes:
            reads.append(digest)
            return super().get_part(digest)

    counted = Counting(LocalStore(Path(origin.name)), "origin")
    shared = Shared(counted)
    targets = [ContentStore.at(tmp_path / name) for name in "abc"]
    copies = [threading.Thread(target=replicate, args=(manifest.digest, shared, target)) for target in targets]
    for copy in copies:
        copy.start()
    for copy in copies:
        copy.join()
    assert all(target.has_blob(manifest.digest) for target in targets)
    assert sorted(reads) == sorted(part.digest for part in manifest.parts())
    part = max(manifest.parts(), key=lambda found: found.size)
    flip_one_byte(blob_file(origin, part.digest))
    for _ in range(2):
        with pytest.raises(IntegrityError, match=part.digest):
            Shared(counted).get_part(part.digest)


def test_what_is_shared_is_held_no_longer_than_there_is_room(origin, manifest: Manifest):
    shared = Shared(origin, most=60_000)
    for part in manifest.parts():
        shared.get_part(part.digest)
        assert sum(len(found.result()) for found in shared._held.values()) <= 60_000


def test_a_bounded_line_puts_each_behind_what_went_before_in_any_process(tmp_path: Path):
    file = tmp_path / "lines" / "region"
    first = Line(file, 1000)._taken(3000)
    second = Line(file, 1000)._taken(500)
    assert second - first >= 3 - 1e-6
    assert Line(file, 1000)._taken(1) - second >= 0.5 - 1e-6
    file.write_text(str(first + 2 * LONGEST_AHEAD))
    assert Line(file, 1000)._taken(1) < first + LONGEST_AHEAD
    file.write_text("rubbish")
    assert Line(file, 1000)._taken(1) >= first


def test_a_copy_over_a_bounded_line_takes_it_for_what_it_sends_and_reads(origin, region, manifest: Manifest, tmp_path: Path):
    class Counted(Line):
        taken = 0

        def _taken(self, size: int) -> float:
            self.taken += size
            return super()._taken(size)

    line = Counted(tmp_path / "line", 1 << 40)
    replicate(manifest.digest, origin, region, How(line=line))
    assert line.taken == 2 * manifest.size
