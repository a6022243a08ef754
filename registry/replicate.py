"""Replicating a revision: its parts side by side, each read back from the target before it counts.

One listing of the target says which parts are there. What is missing is read from the source and checked, sent, and read
back; what is there is read back unless a receipt says that it was, unchanged since. The manifest comes last, so that no
store has a revision half. At most 32 MiB of one copy are under way at any time: that bounds its memory and what a killed
one has to send again, a part's worth.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from fleet.cutting import PART_BYTES
from fleet.errors import IntegrityError
from fleet.manifest import Manifest, Part
from registry.lines import Line
from registry.receipts import Receipts
from registry.store import ContentStore, Stored

STREAMS = 16
"""Parts of one copy that are under way at once; with fewer, small ones would wait for a long line's latency."""
SHARED_BYTES = 32 << 20
BLOBS = "blobs/sha256/"


class PartSource(Protocol):
    """Where a revision is copied from: its parts come checked."""

    name: str

    def manifest(self, digest: str) -> Manifest:
        """Return a stored manifest."""
        ...

    def get_part(self, digest: str) -> bytes:
        """Return a part's bytes, checked."""
        ...


@dataclass(frozen=True, slots=True)
class Replicated:
    """What a copy did: parts sent and parts that were there, bytes sent, bytes read back, bytes that a receipt spoke for."""

    copied: int
    present: int
    bytes: int
    read: int
    spared: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a copy is: bytes in the target and right, of all bytes, and how many of them it has sent."""

    done: int
    whole: int
    sent: int


@dataclass(frozen=True, slots=True)
class How:
    """How to copy: over which bounded line, with whose receipts, and who is told after each part."""

    line: Line | None = None
    receipts: Receipts | None = None
    tell: Callable[[Progress], None] | None = None


PLAIN = How()


def replicate(digest: str, source: PartSource, target: ContentStore, how: How = PLAIN) -> Replicated:
    """Have a revision in a store, every byte of it read back there; may be repeated, killed anywhere.

    Raises IntegrityError that names the blob and the store where bytes are wrong or missing; nothing is overwritten.
    """
    manifest = source.manifest(digest)
    parts = {part.digest: part for part in manifest.parts()}
    if any(part.size > PART_BYTES for part in parts.values()):
        raise IntegrityError(f"revision {digest}", f"has parts of more than {PART_BYTES} bytes; none of ours has", "Package it again.")
    listed = _listed(target, {*parts, digest})
    good = how.receipts.good(listed) if how.receipts else frozenset()
    copying = _Copying(source, target, how, Progress(0, sum(part.size for part in parts.values()), 0))
    copying.spare(parts[known] for known in good if known in parts)
    copying.all_of([part for part in parts.values() if part.digest not in good], frozenset(listed))
    if digest not in good:
        target.put_blob(digest, manifest.to_bytes())
        copying.said[digest] = target.read_back(digest)
    if how.receipts and copying.said:
        how.receipts.give(copying.said)
    return copying.report()


def _listed(target: ContentStore, wanted: Set[str]) -> dict[str, Stored]:
    found = ((f"sha256:{stored.path.removeprefix(BLOBS)}", stored) for stored in target.objects(BLOBS.rstrip("/")))
    return {digest: stored for digest, stored in found if digest in wanted}


class Shared:
    """A source that several copies read at the same time: a part is read and checked once for all that ask for it within a while."""

    def __init__(self, store: ContentStore, most: int = SHARED_BYTES) -> None:
        self.name = store.name
        self._store, self._most = store, most
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Future[bytes]] = OrderedDict()

    def manifest(self, digest: str) -> Manifest:
        """Return a stored manifest."""
        return self._store.manifest(digest)

    def get_part(self, digest: str) -> bytes:
        """Return a part's bytes, checked; raises as the store does."""
        with self._lock:
            found = self._held.get(digest)
            reading = found is None
            if found is None:
                found = self._held[digest] = Future()
        if reading:
            self._read(digest, found)
        return found.result()

    def _read(self, digest: str, found: Future[bytes]) -> None:
        try:
            found.set_result(self._store.get_part(digest))
        except BaseException as problem:
            with self._lock:
                self._held.pop(digest, None)
            found.set_exception(problem)
            raise
        with self._lock:
            held = [(name, len(each.result())) for name, each in self._held.items() if each.done() and each.exception() is None]
            surplus = sum(size for _, size in held) - self._most
            for name, size in held:
                if surplus > 0:
                    del self._held[name]
                    surplus -= size


@dataclass(slots=True)
class _Copying:
    """One copy under way, its parts in several threads."""

    source: PartSource
    target: ContentStore
    how: How
    progress: Progress
    said: dict[str, Stored] = field(default_factory=dict)
    _copied: int = 0
    _present: int = 0
    _read: int = 0
    _spared: int = 0
    _free: int = PART_BYTES
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def spare(self, parts: Iterable[Part]) -> None:
        """Count parts that a receipt speaks for."""
        for part in parts:
            self._present += 1
            self._spared += part.size
            self.progress = replace(self.progress, done=self.progress.done + part.size)

    def all_of(self, parts: list[Part], there: frozenset[str]) -> None:
        """Have parts in the target, read back; the first error ends all, once nothing is at work any more."""
        with ThreadPoolExecutor(STREAMS, thread_name_prefix="parts") as pool:
            under_way = [pool.submit(self._one, part, part.digest in there) for part in parts]
            for future in under_way:
                future.result()

    def report(self) -> Replicated:
        return Replicated(self._copied, self._present, self.progress.sent, self._read, self._spared)

    def _one(self, part: Part, there: bool) -> None:
        with self._room(part.size):
            if self._stopped.is_set():
                return
            try:
                sent = not there and self._sent(part)
                self._wait(part.size)
                self.said[part.digest] = self.target.read_back(part.digest)
            except BaseException:
                self._stopped.set()
                raise
        self._tell(part, sent)

    def _sent(self, part: Part) -> bool:
        data = self.source.get_part(part.digest)
        self._wait(part.size)
        return self.target.send_checked(part.digest, data)

    def _wait(self, size: int) -> None:
        if self.how.line is not None:
            self.how.line.wait(size, self._stopped)

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()

    def _tell(self, part: Part, sent: bool) -> None:
        with self._changed:
            self._copied += sent
            self._present += not sent
            self._read += part.size
            before = self.progress
            self.progress = replace(before, done=before.done + part.size, sent=before.sent + part.size * sent)
            if self.how.tell is not None:
                self.how.tell(self.progress)
