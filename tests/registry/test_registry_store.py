from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from obstore.store import MemoryStore, S3Store

from fleet.canonical import digest_of
from fleet.cutting import PART_BYTES
from fleet.errors import InputError, IntegrityError, OperationFailed, Refused, TransientError, UnknownName
from fleet.manifest import manifest_of
from registry.replicate import replicate
from registry.store import ContentStore


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "origin") if request.param == "local" else ContentStore(MemoryStore(), "memory")


@pytest.fixture
def origin(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "origin")


@pytest.fixture
def region(tmp_path: Path) -> ContentStore:
    return ContentStore.at(tmp_path / "region")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as a Bento has it: nested, an executable, an empty file, the same bytes twice."""
    root = tmp_path / "tree"
    (root / "src" / "model").mkdir(parents=True)
    (root / "bento.yaml").write_text("name: employment\n")
    (root / "src" / "model" / "weights.bin").write_bytes(random.Random(7).randbytes(50_000))
    (root / "src" / "model" / "copy.bin").write_bytes(random.Random(7).randbytes(50_000))
    (root / "src" / "run.sh").write_text("#!/bin/sh\n")
    (root / "src" / "run.sh").chmod(0o755)
    (root / "src" / "__init__.py").touch()
    return root


def blob_file(store: ContentStore, digest: str) -> Path:
    return Path(store.name) / "blobs" / "sha256" / digest.removeprefix("sha256:")


def flip_one_byte(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return bytes(data)


def test_a_blob_is_created_once_and_read_back(store: ContentStore):
    digest = digest_of(b"weights")
    assert not store.has_blob(digest)
    assert store.put_blob(digest, b"weights") is True
    assert store.put_blob(digest, b"weights") is False
    assert store.has_blob(digest)
    assert store.get_blob(digest) == b"weights"


def test_a_blob_under_a_foreign_digest_is_refused(store: ContentStore):
    with pytest.raises(IntegrityError):
        store.put_blob(digest_of(b"weights"), b"other")
    assert not store.has_blob(digest_of(b"weights"))


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../refs/x", "md5:" + "0" * 64, "sha256:" + "A" * 64])
def test_what_is_no_digest_never_becomes_a_path(store: ContentStore, digest: str):
    with pytest.raises(InputError, match="is not sha256"):
        store.get_blob(digest)


def test_a_missing_blob_names_the_store(store: ContentStore):
    with pytest.raises(UnknownName, match=store.name):
        store.get_blob(digest_of(b"nowhere"))


def test_a_tree_comes_back_as_it_was(store: ContentStore, tree: Path, tmp_path: Path):
    manifest = store.put_tree(tree)
    assert manifest == manifest_of(tree)
    assert store.manifest(manifest.digest) == manifest
    assert store.put_tree(tree) == manifest
    there = tmp_path / "revisions" / "employment"
    store.fetch_tree(manifest.digest, there)
    assert manifest_of(there) == manifest
    assert (there / "src" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert there.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in there.parent.iterdir()] == ["employment"]


def test_a_complete_folder_is_verified_and_kept(origin: ContentStore, tree: Path, tmp_path: Path):
    digest = origin.put_tree(tree).digest
    there = tmp_path / "revision"
    origin.fetch_tree(digest, there)
    before = (there / "bento.yaml").stat().st_mtime_ns, (there / "bento.yaml").stat().st_ino
    origin.fetch_tree(digest, there)
    assert ((there / "bento.yaml").stat().st_mtime_ns, (there / "bento.yaml").stat().st_ino) == before
    flip_one_byte(there / "src" / "model" / "weights.bin")
    with pytest.raises(IntegrityError, match="is not revision"):
        origin.fetch_tree(digest, there)


def test_a_fetch_that_fails_leaves_no_folder(origin: ContentStore, tree: Path, tmp_path: Path):
    manifest = origin.put_tree(tree)
    blob_file(origin, manifest.entries[-1].parts[0].digest).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        origin.fetch_tree(manifest.digest, tmp_path / "out" / "revision")
    assert list((tmp_path / "out").iterdir()) == []


def test_copying_skips_what_is_there_and_reads_everything_back(origin: ContentStore, region: ContentStore, tree: Path):
    manifest = origin.put_tree(tree)
    first = next(iter(manifest.parts()))
    region.put_blob(first.digest, origin.get_blob(first.digest))
    report = replicate(manifest.digest, origin, region)
    rest = list(manifest.parts())[1:]
    assert (report.copied, report.present, report.bytes) == (len(rest), 1, sum(part.size for part in rest))
    assert region.manifest(manifest.digest) == manifest
    again = replicate(manifest.digest, origin, region)
    assert (again.copied, again.present, again.bytes) == (0, len(rest) + 1, 0)


def test_a_flipped_byte_is_found_on_read_and_on_copy_and_never_overwritten(origin, region, tree: Path, tmp_path: Path):
    manifest = origin.put_tree(tree)
    replicate(manifest.digest, origin, region)
    part = max(manifest.parts(), key=lambda found: found.size)
    rotten = flip_one_byte(blob_file(region, part.digest))
    named = f"(?s){part.digest}.*{region.name}"
    with pytest.raises(IntegrityError, match=named):
        region.get_blob(part.digest)
    with pytest.raises(IntegrityError, match=named):
        region.fetch_tree(manifest.digest, tmp_path / "revision")
    with pytest.raises(IntegrityError, match=named):
        replicate(manifest.digest, origin, region)
    with pytest.raises(IntegrityError, match=named):
        region.put_blob(part.digest, origin.get_blob(part.digest))
    assert blob_file(region, part.digest).read_bytes() == rotten
    assert not (tmp_path / "revision").exists()


def test_a_flipped_byte_in_the_target_keeps_the_manifest_out(origin, region, tree: Path):
    manifest = origin.put_tree(tree)
    part = max(manifest.parts(), key=lambda found: found.size)
    region.put_blob(part.digest, origin.get_blob(part.digest))
    flip_one_byte(blob_file(region, part.digest))
    with pytest.raises(IntegrityError, match=part.digest):
        replicate(manifest.digest, origin, region)
    assert not region.has_blob(manifest.digest)


def test_a_flipped_byte_in_the_source_is_not_spread(origin, region, tree: Path):
    manifest = origin.put_tree(tree)
    part = list(manifest.parts())[-1]
    flip_one_byte(blob_file(origin, part.digest))
    with pytest.raises(IntegrityError, match=f"(?s){part.digest}.*{origin.name}"):
        replicate(manifest.digest, origin, region)
    assert not region.has_blob(part.digest)
    assert not region.has_blob(manifest.digest)


def test_a_truncated_manifest_is_found(origin, region, tree: Path):
    manifest = origin.put_tree(tree)
    path = blob_file(origin, manifest.digest)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=manifest.digest):
        replicate(manifest.digest, origin, region)


KILLED_COPY = """
import os, signal, sys
from pathlib import Path
from registry.replicate import replicate
from registry.store import ContentStore

class Mortal(ContentStore):
    "Kills its process instead of the put with the given number."
    puts = 0
    def send_checked(self, digest, data):
        self.puts += 1
        if self.puts == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().send_checked(digest, data)

target = Mortal.at(Path(sys.argv[3]))
source = Path(sys.argv[2])
target.put_tree(source) if sys.argv[1] == "tree" else replicate(sys.argv[5], ContentStore.at(source), target)
"""


def test_a_copy_killed_at_any_boundary_leaves_no_dangling_manifest_and_is_resumed(origin, tree: Path, tmp_path: Path, start_python):
    manifest = origin.put_tree(tree)
    parts = list(manifest.parts())
    for put in (2, len(parts) + 1):
        target = ContentStore.at(tmp_path / f"region-{put}")
        child = start_python(KILLED_COPY, "copy", origin.name, target.name, str(put), manifest.digest)
        child.communicate(timeout=60)
        assert child.returncode == -signal.SIGKILL
        assert not target.has_blob(manifest.digest)
        # Parts go side by side: of those before the one that killed it, some may not have arrived; behind all of them is the manifest
        there = sum(target.has_blob(part.digest) for part in parts)
        assert there == len(parts) if put > len(parts) else there < put
        report = replicate(manifest.digest, origin, target)
        assert (report.present, report.copied) == (there, len(parts) - there)
        assert target.manifest(manifest.digest) == manifest


def test_a_packaging_killed_before_the_manifest_is_finished_by_the_next(origin, tree: Path, start_python):
    manifest = manifest_of(tree)
    parts = list(manifest.parts())
    child = start_python(KILLED_COPY, "tree", str(tree), origin.name, str(len(parts) + 1))
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert all(origin.has_blob(part.digest) for part in parts)
    assert not origin.has_blob(manifest.digest)
    assert origin.put_tree(tree) == manifest
    assert origin.manifest(manifest.digest) == manifest


def test_a_file_of_70_mib_goes_in_parts(origin, region, tmp_path: Path):
    big = tmp_path / "big"
    big.mkdir()
    (big / "weights.bin").write_bytes(random.Random(1).randbytes(70 << 20))
    manifest = origin.put_tree(big)
    assert max(part.size for part in manifest.parts()) <= 1 << 20
    assert replicate(manifest.digest, origin, region).bytes == 70 << 20
    region.fetch_tree(manifest.digest, tmp_path / "revision")
    assert manifest_of(tmp_path / "revision") == manifest
    for used in (Path(origin.name), Path(region.name), tmp_path / "revision", big):
        shutil.rmtree(used)


def test_memory_stays_bounded_by_the_part(tmp_path: Path, start_python):
    """A file of 160 MiB may cost a few parts of memory, not its size."""
    big = tmp_path / "big"
    big.mkdir()
    with (big / "sparse.bin").open("wb") as file:
        for number in range(5):
            file.seek(number * PART_BYTES)
            file.write(str(number).encode())
        file.truncate(5 * PART_BYTES)
    script = """
import shutil, sys
from pathlib import Path
from registry.replicate import replicate
from registry.store import ContentStore
# Not ru_maxrss, which begins with what the process had that started this one
peak = lambda: int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) >> 10
root = Path(sys.argv[1])
source = ContentStore.at(root / "a")
source.has_blob("sha256:" + "0" * 64)
before = peak()
digest = source.put_tree(root / "big").digest
replicate(digest, source, ContentStore.at(root / "b"))
shutil.rmtree(root / "a")
ContentStore.at(root / "b").fetch_tree(digest, root / "out")
print(peak() - before)
"""
    child = start_python(script, str(tmp_path))
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, errors
    for used in ("b", "out", "big"):
        shutil.rmtree(tmp_path / used)
    assert int(output) < 3 * (PART_BYTES >> 20), f"{output} MiB"


def test_a_ref_gains_generations_and_the_highest_wins(store: ContentStore, tree: Path):
    one = store.put_tree(tree).digest
    (tree / "bento.yaml").write_text("name: employment\nversion: 2\n")
    two = store.put_tree(tree).digest
    assert store.resolve("employment") is None
    first = store.point("employment", one, epoch=1)
    assert (first.epoch, first.sequence) == (1, 1)
    assert store.point("employment", one, epoch=1) == first
    second = store.point("employment", two, epoch=1)
    back = store.point("employment", one, epoch=10)
    assert (second.sequence, back.sequence) == (2, 3)
    assert store.resolve("employment") == back
    assert store.resolve("employment/other") is None
    with pytest.raises(Refused, match="epoch 10 wrote it"):
        store.point("employment", two, epoch=9)
    assert store.resolve("employment") == back


def test_a_ref_is_only_pointed_to_what_is_stored(store: ContentStore):
    with pytest.raises(UnknownName, match="Copy it there"):
        store.point("employment", digest_of(b"nowhere"), epoch=1)
    for name in ("", "../x", "a//b", "/a", "a b"):
        with pytest.raises(InputError, match="is not a name"):
            store.resolve(name)


def test_a_ref_with_foreign_content_is_reported(origin: ContentStore, tree: Path):
    origin.point("employment", origin.put_tree(tree).digest, epoch=1)
    path = next((Path(origin.name) / "refs" / "employment").iterdir())
    path.write_text('{"digest": "latest"}')
    with pytest.raises(IntegrityError, match="does not name a digest"):
        origin.resolve("employment")


def test_many_writers_of_one_ref_each_get_a_generation(origin: ContentStore, tmp_path: Path):
    digests = []
    for number in range(8):
        root = tmp_path / f"tree-{number}"
        root.mkdir()
        (root / "file").write_text(str(number))
        digests.append(origin.put_tree(root).digest)
    refs = []
    writers = [
        threading.Thread(target=lambda digest=digest: refs.append(origin.point("employment", digest, epoch=3))) for digest in digests
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(ref.sequence for ref in refs) == list(range(1, 9))
    assert origin.resolve("employment") == max(refs, key=lambda ref: ref.sequence)


def test_a_store_that_does_not_answer_is_transient():
    gone = S3Store(
        "bucket",
        endpoint="http://127.0.0.1:1",
        access_key_id="x",
        secret_access_key="y",
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(TransientError, match="far away"):
        ContentStore(gone, "far away").has_blob(digest_of(b"x"))


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OperationFailed, match="cannot be used"):
        ContentStore.at(tmp_path / "file" / "store")


def test_nothing_of_a_link_is_packaged(origin: ContentStore, tree: Path):
    (tree / "link").symlink_to("/etc/hostname")
    with pytest.raises(IntegrityError, match="plain files"):
        origin.put_tree(tree)


def test_importing_the_store_and_the_ledger_loads_no_heavy_library(start_python):
    script = (
        "import sys, registry.store, registry.leases, registry.lineage, registry.models;"
        "print([name for name in ('mlflow', 'dvc', 'alembic', 'pandas', 'sklearn', 'boto3') if name in sys.modules])"
    )
    child: subprocess.Popen[str] = start_python(script)
    output, errors = child.communicate(timeout=60)
    assert output.strip() == "[]", errors
    assert child.returncode == 0
