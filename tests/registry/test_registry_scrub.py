"""A scrub finds what is wrong, missing or foreign in a store, at a bounded speed, and goes on where it was killed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from fleet.errors import OperationFailed
from registry.referrers import ATTESTATION, attach
from registry.scrub import BLOBS, Fault, Kind, Pace, Scrubbed, ScrubIndex, scrub
from registry.store import ContentStore, Notes

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
NOTED: dict[Notes, str] = {
    "heads": "000000000001",
    "fleets": "a" * 64,
    "tombstones": "b" * 64,
    "quarantine": f"{'c' * 64}-20261123T120000000000",
}


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    """A region's store with one revision of three parts, a statement about it, a ref, a signed head and captured rows."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(random.Random(name).randbytes(10_000))
    found = ContentStore.at(tmp_path / "store")
    manifest = found.put_tree(tree)
    attach(found, manifest.digest, ATTESTATION, b"{}")
    found.point("toy", manifest.digest, epoch=1)
    for folder, note in NOTED.items():
        found.note(folder, note, b"noted")
    (tmp_path / "store" / "captured" / "toy").mkdir(parents=True)
    (tmp_path / "store" / "captured" / "toy" / "1-1-1.parquet").write_bytes(b"rows")
    return found


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ScrubIndex]:
    with ScrubIndex.at(tmp_path / "scrub" / "region.db") as found:
        yield found


def revision(store: ContentStore) -> str:
    ref = store.resolve("toy")
    assert ref is not None
    return ref.digest


def file_of(store: ContentStore, digest: str) -> Path:
    return Path(store.name) / BLOBS / digest.removeprefix("sha256:")


def rot(file: Path) -> None:
    """Change one byte as a disk does: the file's time and size stay."""
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def passed(store: ContentStore, index: ScrubIndex, since: datetime = NOW, now: datetime = NOW) -> Scrubbed:
    return scrub(store, index, Pace(0), since, lambda: now)


def test_what_is_right_is_read_once_and_not_again_until_it_is_due(store: ContentStore, index: ScrubIndex):
    first = passed(store, index)
    assert (first.blobs, first.read, first.faults) == (5, 5, ())
    assert first.bytes == sum(found.size for found in store.objects(BLOBS))
    assert passed(store, index).read == 0
    later = NOW + WEEK
    assert passed(store, index, since=later, now=later).read == 5


def test_one_byte_that_rotted_is_found_in_one_pass_and_told_with_who_names_it(store: ContentStore, index: ScrubIndex):
    manifest = store.manifest(revision(store))
    passed(store, index)
    for number, part in enumerate(manifest.parts(), start=1):
        rot(file_of(store, part.digest))
        assert passed(store, index).faults == (), "the store says nothing of it, and it was read in this pass"
        due = NOW + number * WEEK
        (fault,) = passed(store, index, since=due, now=due).faults
        assert (fault.kind, fault.digest, fault.named_by) == (Kind.WRONG, part.digest, (manifest.digest,))
        rot(file_of(store, part.digest))
        assert passed(store, index, since=due, now=due).faults == ()


def test_what_was_read_lately_and_written_since_is_read_again(store: ContentStore, index: ScrubIndex):
    passed(store, index)
    part = next(store.manifest(revision(store)).parts())
    file_of(store, part.digest).write_bytes(b"another")
    (fault,) = passed(store, index).faults
    assert (fault.kind, fault.digest) == (Kind.WRONG, part.digest)


def test_a_blob_that_is_named_and_not_there_is_missing_whoever_names_it(store: ContentStore, index: ScrubIndex):
    manifest = store.manifest(revision(store))
    part = next(manifest.parts())
    statement = next(found for found in store.objects("referrers")).path
    passed(store, index)
    for digest, by in ((part.digest, manifest.digest), (f"sha256:{statement.rpartition('/')[2]}", statement)):
        file_of(store, digest).unlink()
        (fault,) = passed(store, index).faults
        assert (fault.kind, fault.digest, fault.named_by) == (Kind.MISSING, digest, (by,))
        index.drop(digest)
        store.put_blob(digest, b"{}" if by == statement else (Path(store.name).parent / "tree" / "a").read_bytes())
    file_of(store, manifest.digest).unlink()
    (fault,) = passed(store, index).faults
    assert (fault.kind, fault.digest, fault.named_by) == (Kind.MISSING, manifest.digest, ("refs/toy/000000000001-000000000001",))


def test_what_is_noted_in_any_folder_of_ours_is_no_fault(store: ContentStore, index: ScrubIndex):
    assert {*NOTED, "referrers"} == {*get_args(Notes)}
    assert passed(store, index).faults == ()


def test_what_is_none_of_ours_is_told_and_left_alone(store: ContentStore, index: ScrubIndex):
    alien = Path(store.name) / BLOBS / "notes.txt"
    alien.write_text("mine")
    assert passed(store, index).faults == (Fault(Kind.ALIEN, f"{BLOBS}notes.txt", "is not named as anything of ours"),)
    assert alien.read_text() == "mine"


def test_a_ref_that_names_no_digest_is_wrong(store: ContentStore, index: ScrubIndex):
    path = next((Path(store.name) / "refs" / "toy").iterdir())
    path.write_text('{"digest": "latest"}')
    (fault,) = passed(store, index).faults
    assert (fault.kind, fault.digest, fault.path) == (Kind.WRONG, None, f"refs/toy/{path.name}")


def test_a_blob_larger_than_any_of_ours_is_wrong_and_not_read(store: ContentStore, index: ScrubIndex):
    part = next(store.manifest(revision(store)).parts())
    with file_of(store, part.digest).open("r+b") as file:
        file.truncate(65 << 20)
    (fault,) = passed(store, index).faults
    assert (fault.kind, fault.digest) == (Kind.WRONG, part.digest)
    assert "none of ours has more" in fault.why


def test_the_speed_is_bounded():
    waited: list[float] = []
    time = [100.0]

    def wait(seconds: float) -> None:
        waited.append(seconds)
        time[0] += seconds

    pace = Pace(1000, lambda: time[0], wait)
    for _ in range(5):
        pace.spend(2000)
    assert (waited, time[0]) == ([2.0] * 4, 108.0)
    time[0] += 60
    pace.spend(1)
    assert len(waited) == 4, "what was not used up while it rested is not owed"
    Pace(0, lambda: time[0], wait).spend(1 << 40)
    assert len(waited) == 4


def test_a_scrub_reads_at_the_pace_of_what_it_reads(store: ContentStore, index: ScrubIndex):
    asked: list[int] = []

    class Asked(Pace):
        def spend(self, size: int) -> None:
            asked.append(size)

    scrub(store, index, Asked(1), NOW, lambda: NOW)
    assert sorted(asked) == sorted(found.size for found in store.objects(BLOBS))


KILLED = """
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from registry.scrub import Pace, ScrubIndex, scrub
from registry.store import ContentStore

class Mortal(ContentStore):
    reads = 0
    def get_blob(self, digest):
        self.reads += 1
        if self.reads == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().get_blob(digest)

now = datetime.fromisoformat(sys.argv[3])
with ScrubIndex.at(Path(sys.argv[2])) as index:
    scrub(Mortal.at(Path(sys.argv[1])), index, Pace(0), now, lambda: now)
"""


def test_a_scrub_that_is_killed_goes_on_where_it_was(store: ContentStore, tmp_path: Path, start_python):
    file = tmp_path / "index.db"
    child = start_python(KILLED, store.name, str(file), NOW.isoformat())
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    with ScrubIndex.at(file) as index:
        assert passed(store, index).read == 2


def test_an_index_that_is_none_is_told_with_what_to_do(tmp_path: Path):
    file = tmp_path / "index.db"
    file.write_bytes(b"no database at all, whatever it is called" * 100)
    with pytest.raises(OperationFailed, match="delete it"), ScrubIndex.at(file):
        pass
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OperationFailed, match="folder cannot be made"), ScrubIndex.at(file / "index.db"):
        pass
