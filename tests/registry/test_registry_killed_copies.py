"""A copy of a gigabyte that is killed at every part, and a thousand readers of a store whose writer is killed everywhere."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from fleet.canonical import digest_of
from fleet.cutting import PART_BYTES
from fleet.errors import IntegrityError, UnknownName
from fleet.manifest import Entry, Manifest, Part
from registry.replicate import replicate
from registry.store import ContentStore

pytestmark = pytest.mark.long

MIB = 1 << 20
COUNT, SIZE = 64, 16 * MIB
READERS, FILES = 1000, 4

COPIER = """
import os, re, signal, sys, threading
from pathlib import Path

# All that a copy needs is read in once: each copier is forked from here, where no thread has begun yet
from registry.replicate import replicate
from registry.store import ContentStore

class Mortal(ContentStore):
    "Tells each put as it begins, and kills its process when the first part has ended, and before a manifest."
    def send_checked(self, digest, data):
        os.write(1, f"begins {digest} {len(data)}\\n".encode())
        if digest != sys.argv[3]:
            super().send_checked(digest, data)
        os.kill(os.getpid(), signal.SIGKILL)

there = set()
while True:
    copier = os.fork()
    if copier == 0:
        replicate(sys.argv[3], ContentStore.at(Path(sys.argv[1])), Mortal.at(Path(sys.argv[2])))
        os._exit(0)
    _, status = os.waitpid(copier, 0)
    listed = os.listdir(Path(sys.argv[2]) / "blobs" / "sha256")
    before, there = there, {f"sha256:{name}" for name in listed if re.fullmatch("[0-9a-f]{64}", name)}
    os.write(1, f"killed {os.WTERMSIG(status)} {' '.join(sorted(there))}\\n".encode())
    if there == before:
        break
"""


def gigabyte(store: ContentStore) -> Manifest:
    """Store a revision of one file, in 64 different parts of 16 MiB, without a gigabyte in memory."""
    parts = []
    for number in range(COUNT):
        data = number.to_bytes(4, "big") * (SIZE // 4)
        parts.append(Part(digest_of(data), SIZE))
        store.put_blob(parts[-1].digest, data)
    manifest = Manifest((Entry("weights.bin", 0o644, COUNT * SIZE, digest_of(b"whole"), tuple(parts)),))
    store.put_blob(manifest.digest, manifest.to_bytes())
    return manifest


def test_a_gigabyte_whose_copier_is_killed_at_every_part_is_sent_once_but_for_a_parts_worth_each_time(tmp_path: Path, start_python) -> None:
    """64 parts of 16 MiB: of those two are under way at once, and together they are what one of the largest, 32 MiB, holds.

    It takes a minute: each copier reads back what is there, for one that was killed gave no receipts.
    """
    origin, region = ContentStore.at(tmp_path / "origin"), ContentStore.at(tmp_path / "region")
    manifest = gigabyte(origin)
    child = start_python(COPIER, origin.name, region.name, manifest.digest)
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    begun: dict[str, int] = {}
    kills, there = 0, frozenset[str]()
    for word, first, *rest in map(str.split, output.splitlines()):
        if word == "begins":
            begun[first] = int(rest[0])
            continue
        assert int(first) == signal.SIGKILL
        kills, there = kills + 1, frozenset(rest)
        again = sum(size for digest, size in begun.items() if digest not in there and digest != manifest.digest)
        assert again <= PART_BYTES, f"{again} bytes are sent again after kill {kills}"
        assert manifest.digest not in there, "a reader would have met a manifest without its parts"
        begun = {}
    assert kills > COUNT // 2
    done = replicate(manifest.digest, origin, region)
    assert (done.copied, done.bytes, done.read) == (0, 0, COUNT * SIZE)
    assert digest_of(region.manifest(manifest.digest).to_bytes()) == manifest.digest
    shutil.rmtree(tmp_path)


WRITER = """
import os, signal, sys
from pathlib import Path
from registry.replicate import replicate
from registry.store import ContentStore

class Mortal(ContentStore):
    "Kills its process instead of the write with the given number, be it of a part, of the manifest or of the pointer."
    writes = 0
    def _create(self, path, data):
        Mortal.writes += 1
        if Mortal.writes == int(sys.argv[4]):
            os.write(1, path.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._create(path, data)

region = Mortal.at(Path(sys.argv[2]))
replicate(sys.argv[3], ContentStore.at(Path(sys.argv[1])), region)
region.point("toy", sys.argv[3], epoch=1)
"""


class Readers:
    """A thousand at once, each of which looks at what is named and at what is being written, again and again; all bytes are checked.

    Each gives way to the others after every object that it reads: so all of them are in the midst of reading at any time.
    """

    def __init__(self, region: ContentStore) -> None:
        self.region = region
        self.written = ""
        self.dangling: list[str] = []
        self._met: list[set[str]] = [set() for _ in range(READERS)]
        self._ended = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._thread.join(60)

    def wait_for(self, digest: str) -> None:
        """Wait until every one of them has met a revision by its pointer, whole."""
        deadline = time.monotonic() + 60
        while not all(digest in met for met in self._met):
            assert time.monotonic() < deadline, f"some reader never met it: {self.dangling[:1]}"
            time.sleep(0.05)

    async def _all(self) -> None:
        await asyncio.gather(*map(self._read, self._met))

    async def _read(self, met: set[str]) -> None:
        while not self._ended:
            await asyncio.sleep(0)
            written = self.written
            try:
                if written and self.region.has_blob(written):
                    await self._whole(written)
                if (ref := self.region.resolve("toy")) is not None:
                    await self._whole(ref.digest)
                    met.add(ref.digest)
            except (IntegrityError, UnknownName) as problem:
                self.dangling.append(str(problem))

    async def _whole(self, digest: str) -> None:
        manifest = self.region.manifest(digest)
        for part in manifest.parts():
            await asyncio.sleep(0)
            self.region.get_part(part.digest)


def test_a_thousand_readers_never_meet_a_manifest_or_a_pointer_without_its_parts(tmp_path: Path, start_python) -> None:
    """Of six revisions in turn the writer is killed before one write: each part, the manifest, the pointer; then another goes on."""
    origin, region = ContentStore.at(tmp_path / "origin"), ContentStore.at(tmp_path / "region")
    killed_at: list[str] = []
    with Readers(region) as readers:
        for write in range(1, FILES + 3):
            manifest = revision(origin, tmp_path / f"revision-{write}")
            readers.written = manifest.digest
            for kill in (write, 0):
                child = start_python(WRITER, origin.name, region.name, manifest.digest, str(kill))
                output, errors = child.communicate(timeout=60)
                assert child.returncode == (-signal.SIGKILL if kill else 0), errors
                killed_at += [output.replace(manifest.digest.removeprefix("sha256:"), "manifest")] if kill else []
            readers.wait_for(manifest.digest)
    assert readers.dangling == []
    assert [path.rpartition("/")[0] for path in killed_at] == ["blobs/sha256"] * (FILES + 1) + ["refs/toy"]
    assert killed_at[FILES] == "blobs/sha256/manifest"


def revision(store: ContentStore, root: Path) -> Manifest:
    """Store a revision of small files of its own."""
    root.mkdir()
    for number in range(FILES):
        (root / f"{number}.bin").write_text(f"{root.name} {number} " * 500)
    return store.put_tree(root)
