"""Scrubbing: every blob of a store is read at a bounded speed and held against its name, and what names blobs against what is there.

A blob that was right gets an entry in an index beside Convoy, so that whoever is killed goes on where it was, and a blob
that was read lately is not read again. Nothing in the store is changed here.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from fleet.errors import IntegrityError, OperationFailed, UnknownName
from fleet.manifest import Manifest
from registry.events import read_stamp, stamp
from registry.store import ContentStore, Stored

BLOBS = "blobs/sha256/"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_REFERRER = re.compile(r"referrers/([0-9a-f]{64})/([0-9a-f]{64})")
_REF = re.compile(r"refs/(.+)/(\d{12}-\d{12})")
_OURS = re.compile(r"heads/\d{12,}|quarantine/[0-9a-f]{64}-\d{8}T\d{12}|tombstones/[0-9a-f]{64}|fleets/[0-9a-f]{64}|captured/.+")
_FIRST = b'{"files":['
"""What every manifest begins with; most parts do not."""
_TABLE = "CREATE TABLE IF NOT EXISTS read (digest TEXT PRIMARY KEY, size INTEGER, etag TEXT, at TEXT, verified TEXT, manifest INTEGER)"


class Kind(StrEnum):
    """What may be wrong with an object."""

    WRONG = "wrong"
    MISSING = "missing"
    ALIEN = "alien"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]


MEANING: dict[Kind, str] = {
    Kind.WRONG: "A blob has other bytes than its name says.",
    Kind.MISSING: "Something names a blob that is not there.",
    Kind.ALIEN: "An object has a name that is none of ours; it is told and left alone.",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one object: its path, why, and what names it (revisions by digest, refs and referrers by path)."""

    kind: Kind
    path: str
    why: str
    named_by: tuple[str, ...] = ()

    @property
    def digest(self) -> str | None:
        """The digest of the blob that it is about, None for an object of another kind."""
        match = _BLOB.fullmatch(self.path)
        return f"sha256:{match[1]}" if match else None


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What a pass over a store found: how many blobs there are, how many were read now, with how many bytes, and the faults."""

    store: str
    blobs: int
    read: int
    bytes: int
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class Pace:
    """Bounds a speed: after `spend` of some bytes the next begin only once those before are paid for. 0 means without bound."""

    bytes_per_second: int
    clock: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = time.sleep
    _paid: float = field(default=0.0, init=False)

    def spend(self, size: int) -> None:
        """Wait until `size` more bytes may be read."""
        if self.bytes_per_second <= 0:
            return
        now = self.clock()
        if self._paid > now:
            self.wait(self._paid - now)
        self._paid = max(self._paid, now) + size / self.bytes_per_second


class ScrubIndex:
    """Which blobs of a store were read and right, and when: a SQLite file, which may be deleted; then all are read again."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def at(cls, path: Path) -> Iterator[ScrubIndex]:
        """Open the index in a file, which is made when it is missing; raises OperationFailed when it cannot be used."""
        remedy = "Look at its folder, or delete it: then all blobs are read again."
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise OperationFailed(f"index {path}", f"its folder cannot be made ({problem})", remedy) from problem
        try:
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_TABLE)
                yield cls(connection)
        except sqlite3.DatabaseError as problem:
            raise OperationFailed(f"index {path}", f"cannot be used ({problem})", remedy) from problem

    def verified(self, digest: str, found: Stored) -> datetime | None:
        """Return when a blob was last read and right, None when it never was or was written since."""
        same = (digest, found.size, found.etag, stamp(found.at))
        query = "SELECT verified FROM read WHERE digest = ? AND size = ? AND etag = ? AND at = ?"
        row = self._connection.execute(query, same).fetchone()
        return read_stamp(row[0]) if row else None

    def is_manifest(self, digest: str) -> bool:
        """Say whether a blob was a manifest when it was read."""
        row = self._connection.execute("SELECT manifest FROM read WHERE digest = ?", (digest,)).fetchone()
        return bool(row and row[0])

    def keep(self, digest: str, found: Stored, now: datetime, manifest: bool) -> None:
        """Note that a blob was read just now and is right."""
        values = (digest, found.size, found.etag, stamp(found.at), stamp(now), int(manifest))
        self._connection.execute("INSERT OR REPLACE INTO read VALUES (?, ?, ?, ?, ?, ?)", values)

    def drop(self, digest: str) -> None:
        """Forget a blob."""
        self._connection.execute("DELETE FROM read WHERE digest = ?", (digest,))


def scrub(store: ContentStore, index: ScrubIndex, pace: Pace, since: datetime, now: Callable[[], datetime]) -> Scrubbed:
    """Read every blob that was not read since a moment, and return what is wrong, missing or none of ours.

    Begun again with the same `since` after a kill it goes on where it was. Raises Unreachable, and keeps what it has read.
    """
    there, rest = _listed(store)
    wrong, manifests = [], []
    read = size = 0
    for digest, found in sorted(there.items()):
        verified = index.verified(digest, found)
        if verified is not None and verified >= since:
            manifests += [digest] if index.is_manifest(digest) else []
            continue
        pace.spend(found.size)
        try:
            data = store.get_blob(digest)
        except UnknownName:
            # It was deleted or moved aside since it was listed
            continue
        except IntegrityError as problem:
            index.drop(digest)
            wrong.append(Fault(Kind.WRONG, found.path, problem.reason))
            continue
        read, size = read + 1, size + found.size
        whole = is_manifest(data)
        index.keep(digest, found, now(), whole)
        manifests += [digest] if whole else []
    named, unreadable = _named(store, manifests, rest)
    missing = [digest for digest in sorted(named) if digest not in there and not store.has_blob(digest)]
    faults = [replace(fault, named_by=named.get(fault.digest or "", ())) for fault in wrong] + unreadable
    faults += [Fault(Kind.MISSING, BLOBS + digest.removeprefix("sha256:"), "is missing", named[digest]) for digest in missing]
    faults += [Fault(Kind.ALIEN, path, "is not named as anything of ours") for path in sorted(rest) if not _is_ours(path)]
    return Scrubbed(store.name, len(there), read, size, tuple(faults))


def _listed(store: ContentStore) -> tuple[dict[str, Stored], list[str]]:
    """Return the blobs of a store by digest, and the paths of all else."""
    blobs, rest = {}, []
    for found in store.objects():
        match = _BLOB.fullmatch(found.path)
        if match:
            blobs[f"sha256:{match[1]}"] = found
        else:
            rest.append(found.path)
    return blobs, rest


def begins_as_manifest(data: bytes) -> bool:
    """Whether a blob's first bytes are those of a manifest; a part may begin so as well."""
    return data.startswith(_FIRST)


def is_manifest(data: bytes) -> bool:
    """Whether a blob's bytes are a revision's manifest."""
    if not begins_as_manifest(data):
        return False
    try:
        Manifest.from_bytes(data)
    except IntegrityError:
        return False
    return True


def _named(store: ContentStore, manifests: Iterable[str], rest: Iterable[str]) -> tuple[Mapping[str, tuple[str, ...]], list[Fault]]:
    """Return every digest that a manifest, a referrer or the newest generation of a ref names, by what, and the refs that name none."""
    named: dict[str, list[str]] = defaultdict(list)
    for digest in manifests:
        for part in store.manifest(digest).parts():
            named[part.digest].append(digest)
    refs: dict[str, str] = {}
    for path in rest:
        if match := _REFERRER.fullmatch(path):
            named[f"sha256:{match[2]}"].append(path)
        elif match := _REF.fullmatch(path):
            refs[match[1]] = max(match[2], refs.get(match[1], ""))
    unreadable = []
    for name, generation in refs.items():
        path = f"refs/{name}/{generation}"
        try:
            found = store.resolve(name)
        except UnknownName:
            # It has moved on since it was listed
            continue
        except IntegrityError as problem:
            unreadable.append(Fault(Kind.WRONG, path, problem.reason))
            continue
        if found is not None:
            named[found.digest].append(path)
    return {digest: tuple(sorted(by)) for digest, by in named.items()}, unreadable


def _is_ours(path: str) -> bool:
    return any(pattern.fullmatch(path) for pattern in (_REFERRER, _REF, _OURS))
