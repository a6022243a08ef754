"""The content store: blobs named by their SHA-256 and refs that only ever gain generations, on any object store.

    blobs/sha256/<hex>                  a part of a file (at most 32 MiB), or a manifest
    refs/<name>/<epoch>-<sequence>      {"digest": ...}; the highest wins
    heads/<number>                      a signed head of the ledger
    referrers/<hex>/<hex>               {"digest", "mediaType", "size"} of a blob that says something of the first digest
    quarantine/<hex>-<time>             the bytes of a blob that was wrong, and when they were written
    tombstones/<hex>                    {"at", "size"} of a blob that nothing needed then
    fleets/<hex>                        a fleet.yaml that a release went by, named by the SHA-256 of its bytes

All are written create-only, since that is the one conditional write that every object store has: blobs before the
manifest that names them before the ref that names it, so a reader never meets a name without its bytes. What is read
is checked against its digest, and a wrong blob is reported and never overwritten.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import obstore
from obstore import exceptions
from obstore.store import LocalStore, ObjectStore

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError, IntegrityError, OperationFailed, Refused, UnknownName
from fleet.manifest import Manifest, manifest_of
from registry.closed_world import clashes, differences
from registry.store_errors import MISSING, in_our_terms
from registry.trees import pieces, unpack

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
MOST_TOLD = 5
LARGEST = 64 << 20
"""Bytes of an object: a part has at most 32 MiB, and a manifest of a million files less."""
Notes = Literal["heads", "referrers", "quarantine", "tombstones", "fleets"]
"""The folders of what is written once under a name of its own."""
HERE = "Check that it runs and has room."
"""What helps where a store on this machine fails."""
_GENERATION = re.compile(r"(\d{12})-(\d{12})")
_FOLDER = re.compile(
    r"blobs(/sha256)?|refs(/(?!\d{12}-\d{12}$)[^/]+)*|referrers(/[0-9a-f]{64})?|heads|quarantine|tombstones|fleets|captured(/[^/]+)*"
)
"""What an empty object is that a browser of the store, or a store that keeps folders, has in the place of a folder."""


@dataclass(frozen=True, slots=True)
class Ref:
    """What a name points to, since which epoch and as which generation."""

    name: str
    digest: str
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of a store: its path, its size in bytes, when it was written, and what the store says of its content (e-tag)."""

    path: str
    size: int
    at: datetime
    etag: str


class ContentStore:
    """One store. `name` is what messages call it; every verb may be repeated.

    Raises Unreachable when the store does not answer, Denied when it refuses our credentials.
    """

    def __init__(self, store: ObjectStore, name: str, remedy: str = HERE) -> None:
        self._store = store
        self.name = name
        self._remedy = remedy

    @classmethod
    def at(cls, path: Path) -> ContentStore:
        """Return the store in a local folder, which is made when it is missing."""
        try:
            return cls(LocalStore(path, mkdir=True), str(path))
        except (OSError, exceptions.BaseError) as problem:
            raise OperationFailed(f"store {path}", f"the folder cannot be used ({problem})", "Check the path and its owner.") from problem

    def put_blob(self, digest: str, data: bytes) -> bool:
        """Store a blob; return True when it is new and False when it was there, with the right bytes.

        Raises IntegrityError when `data` is not what the digest says, or what is there is not.
        """
        if digest_of(data) != digest:
            raise IntegrityError(f"blob {digest}", f"the bytes for store {self.name} are not these", "Read them again from their source.")
        if self.send_checked(digest, data):
            return True
        self.get_blob(digest)
        return False

    def send_checked(self, digest: str, data: bytes) -> bool:
        """Store a blob whose bytes were checked just now, unless there is one; True when it is new.

        For who reads it back afterwards, and so checks what is there whoever wrote it.
        """
        return self._create(_blob(digest), data)

    def get_blob(self, digest: str) -> bytes:
        """Return a blob's bytes, checked; raises UnknownName when it is missing, IntegrityError when it is wrong."""
        data = self._read(_blob(digest), f"blob {digest}")
        if digest_of(data) != digest:
            raise IntegrityError(
                f"blob {digest} in store {self.name}",
                f"has other bytes ({len(data)} of them, {digest_of(data)})",
                "Move the object away, look at the disk, then copy the blob again from another region.",
            )
        return data

    def get_part(self, digest: str) -> bytes:
        """Return a blob that a manifest lists; raises IntegrityError when it is wrong or missing."""
        try:
            return self.get_blob(digest)
        except UnknownName as problem:
            raise IntegrityError(f"blob {digest} in store {self.name}", "is missing", "Copy the revision to the store again.") from problem

    def read_back(self, digest: str) -> Stored:
        """Read a blob, check it, and return what the store said of it with the bytes; raises IntegrityError when it is wrong or missing.

        As `get_part`, without handing the bytes out: none are copied.
        """
        path, subject = _blob(digest), f"blob {digest} in store {self.name}"
        with self._translated(f"blob {digest}"):
            try:
                found, stored = self._fetched(path, f"blob {digest}")
            except MISSING as problem:
                raise IntegrityError(subject, "is missing", "Copy the revision to the store again.") from problem
        seen = digest_of(memoryview(found))
        if seen != digest:
            told = f"has other bytes ({len(found)} of them, {seen})"
            raise IntegrityError(subject, told, "Move the object away, look at the disk, then copy the blob again from another region.")
        return stored

    def has_blob(self, digest: str) -> bool:
        """Say whether a blob of that name is there; its bytes are only checked by reading them."""
        return self.blob(digest) is not None

    def put_tree(self, root: Path) -> Manifest:
        """Store a folder's files part by part, then their manifest, and return it; raises IntegrityError for names that clash."""
        manifest = manifest_of(root)
        if same := clashes(entry.path for entry in manifest.entries):
            raise IntegrityError(str(root), "; ".join(same[:MOST_TOLD]), "Give each file and folder a name of its own.")
        for part, data in pieces(root, manifest):
            self.put_blob(part.digest, data)
        self.put_blob(manifest.digest, manifest.to_bytes())
        return manifest

    def manifest(self, digest: str) -> Manifest:
        """Return a stored manifest; raises UnknownName when the store has none of that digest."""
        return Manifest.from_bytes(self.get_blob(digest))

    def fetch_tree(self, digest: str, to: Path) -> None:
        """Make `to` the folder that a manifest describes: built aside, verified, then renamed into place.

        A folder that is there already is verified and kept; one that differs raises IntegrityError, as does a part
        that is missing or wrong.
        """
        manifest = self.manifest(digest)
        if not to.exists():
            unpack(manifest, self.get_part, to)
        if wrong := differences(to, manifest):
            told = f"is not revision {digest}: {'; '.join(wrong[:MOST_TOLD])}"
            raise IntegrityError(str(to), told, "Stop what uses the folder, delete it, and fetch it again.")

    def point(self, name: str, digest: str, epoch: int) -> Ref:
        """Let a name point to a stored manifest, as a new generation; nothing is written when it does so already.

        Raises Refused when a higher epoch has written the name, UnknownName when the manifest is not stored.
        """
        if not self.has_blob(digest):
            raise UnknownName(f"revision {digest}", f"is not in store {self.name}", "Copy it there before pointing to it.")
        while True:
            newest = self.resolve(name)
            if newest is not None and newest.epoch > epoch:
                raise Refused(f"ref '{name}' in store {self.name}", f"epoch {newest.epoch} wrote it, {epoch} is over")
            if newest is not None and (newest.digest, newest.epoch) == (digest, epoch):
                return newest
            ref = Ref(name, digest, epoch, newest.sequence + 1 if newest else 1)
            if self._create(f"refs/{name}/{_generation(ref)}", canonical_json({"digest": digest})):
                return ref

    def resolve(self, name: str) -> Ref | None:
        """Return what a name points to, or None when nobody has pointed it anywhere."""
        generations = self._generations(name)
        if not generations:
            return None
        epoch, sequence = max(generations)
        subject = f"ref '{name}' {epoch}-{sequence} in store {self.name}"
        try:
            document = json.loads(self._read(f"refs/{name}/{epoch:012}-{sequence:012}", subject))
            return Ref(name, _checked(document["digest"]), epoch, sequence)
        except UnknownName:
            # Deleted between the listing and the reading, for the name has moved on
            raise
        except (ValueError, KeyError, TypeError, InputError) as problem:
            raise IntegrityError(subject, "does not name a digest", "Look at the object; then point the name again.") from problem

    def note(self, folder: Notes, name: str, data: bytes) -> bool:
        """Write something once below a folder, and read it back; return True when it is new, False when it was there.

        Raises IntegrityError when what is there then has other bytes.
        """
        new = self._create(_note(folder, name), data)
        if self.noted(folder, name) != data:
            raise IntegrityError(
                f"{folder}/{name} in store {self.name}", "has other bytes than were written", "Look at who else writes there."
            )
        return new

    def noted(self, folder: Notes, name: str) -> bytes:
        """Return what was noted; raises UnknownName."""
        return self._read(_note(folder, name), f"{folder}/{name}")

    def notes(self, folder: Notes, below: str = "") -> tuple[str, ...]:
        """Return the names of what was noted in a folder, or in one below it, sorted."""
        path = _note(folder, below) if below else folder
        with self._translated(path):
            listed = obstore.list_with_delimiter(self._store, path)["objects"]
        return tuple(sorted(found["path"].removeprefix(f"{path}/") for found in listed if not _is_folder(found)))

    def objects(self, below: str = "") -> Iterator[Stored]:
        """Yield every object below a path, in whatever order the store lists them; none that only stands for a folder."""
        with self._translated(below or "its listing"):
            for several in obstore.list(self._store, prefix=below or None):
                yield from (_stored(found) for found in several if not _is_folder(found))

    def blob(self, digest: str) -> Stored | None:
        """Return what the store says of a blob without reading it, None where it has none of that name."""
        with self._translated(f"blob {digest}"):
            try:
                found = obstore.head(self._store, _blob(digest))
            except MISSING:
                return None
        return _stored(found)

    def begin(self, digest: str) -> bytes:
        """Return the first bytes of a blob, unchecked; none for one that is gone or empty."""
        found = self.blob(digest)
        if found is None or found.size == 0:
            return b""
        with self._translated(f"blob {digest}"):
            try:
                return obstore.get_range(self._store, found.path, start=0, length=min(found.size, 64)).to_bytes()
            except MISSING:
                return b""

    def move(self, name: str, digest: str, after: Ref | None) -> Ref | None:
        """Let a name point to a stored blob as the generation after the one that was read; None when somebody else was quicker.

        None as well where it was our own try, whose answer was lost: whoever reads the name again finds what was wanted.
        Older generations are deleted but for the one before, so that looking a name up lists two objects however often it moved.
        """
        ref = Ref(name, digest, 0, after.sequence + 1 if after else 1)
        if not self._create(f"refs/{name}/{_generation(ref)}", canonical_json({"digest": digest})):
            return None
        generations = self._generations(name)
        # One who was overtaken by two others may have made a generation again that was deleted: the highest counts
        if max(generations) != (ref.epoch, ref.sequence):
            return None
        for epoch, sequence in generations:
            if sequence < ref.sequence - 1:
                self._delete(f"refs/{name}/{_generation(Ref(name, digest, epoch, sequence))}")
        return ref

    def quarantine(self, digest: str) -> str | None:
        """Move a blob that is wrong aside, byte for byte, and return the name it has there; None when it is right or gone.

        Killed in between, the same is done again under the same name. Raises OperationFailed for one too large to be moved.
        """
        found = self.blob(digest)
        if found is None:
            return None
        if found.size > LARGEST:
            remedy = f"Move {found.path} away by hand, outside blobs/."
            raise OperationFailed(f"blob {digest} in store {self.name}", f"has {found.size} bytes, too many to be moved aside", remedy)
        data = self._read(found.path, f"blob {digest}")
        if digest_of(data) == digest:
            return None
        name = f"{_hex(digest)}-{found.at:%Y%m%dT%H%M%S%f}"
        self.note("quarantine", name, data)
        self._delete(found.path)
        return name

    def delete_blob(self, digest: str) -> None:
        """Delete a blob that has a tombstone, and then the tombstone; raises Refused for one without."""
        if not self._has(_note("tombstones", _hex(digest))):
            raise Refused(f"blob {digest} in store {self.name}", "has no tombstone, and nothing else is deleted")
        self._delete(_blob(digest))
        self.unmark(digest)

    def unmark(self, digest: str) -> None:
        """Take a blob's tombstone away; nothing happens where it has none."""
        self._delete(_note("tombstones", _hex(digest)))

    def forget_referrer(self, subject: str, digest: str) -> None:
        """Take the note away by which a document is found beside a digest; the document itself stays."""
        self._delete(_note("referrers", f"{_hex(subject)}/{_hex(digest)}"))

    def _has(self, path: str) -> bool:
        with self._translated(path):
            try:
                obstore.head(self._store, path)
            except MISSING:
                return False
        return True

    def _delete(self, path: str) -> None:
        with self._translated(path):
            try:
                obstore.delete(self._store, path)
            except MISSING:
                return

    def _generations(self, name: str) -> list[tuple[int, int]]:
        if not _NAME.fullmatch(name):
            raise InputError(
                f"ref '{name}'", "is not a name", "Use letters, digits, dots, dashes and underscores, in parts divided by slashes."
            )
        with self._translated(f"ref '{name}'"):
            listed = obstore.list_with_delimiter(self._store, f"refs/{name}")["objects"]
        keys = [_GENERATION.fullmatch(found["path"].rpartition("/")[2]) for found in listed]
        return [(int(key[1]), int(key[2])) for key in keys if key]

    def _create(self, path: str, data: bytes) -> bool:
        with self._translated(path):
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except exceptions.AlreadyExistsError:
                return False
            except MISSING as problem:
                raise OperationFailed(f"store {self.name}", "is not there: nothing can be written to it", self._remedy) from problem
        return True

    def _read(self, path: str, subject: str) -> bytes:
        with self._translated(subject):
            return self._fetched(path, subject)[0].to_bytes()

    def _fetched(self, path: str, subject: str) -> tuple[obstore.Bytes, Stored]:
        found = obstore.get(self._store, path)
        stored = _stored(found.meta)
        if stored.size > LARGEST:
            raise IntegrityError(
                f"{subject} in store {self.name}", f"has {stored.size} bytes; none of ours has more than {LARGEST}", "Look at it."
            )
        return found.bytes(), stored

    @contextmanager
    def _translated(self, subject: str) -> Iterator[None]:
        asked = time.monotonic()
        try:
            yield
        except (FileNotFoundError, exceptions.BaseError) as problem:
            named = (self._store, self.name, self._remedy)
            raise in_our_terms(problem, named, subject, time.monotonic() - asked) from problem


def _stored(found: obstore.ObjectMeta) -> Stored:
    # Azure puts an e-tag into quotes in every answer but a listing's
    return Stored(found["path"], found["size"], found["last_modified"].astimezone(UTC), (found["e_tag"] or "").strip('"'))


def _is_folder(found: obstore.ObjectMeta) -> bool:
    return found["size"] == 0 and _FOLDER.fullmatch(found["path"]) is not None


def _blob(digest: str) -> str:
    return f"blobs/sha256/{_hex(digest)}"


def _hex(digest: str) -> str:
    return _checked(digest).removeprefix("sha256:")


def _note(folder: Notes, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{folder}/{name}", "is not a name")
    return f"{folder}/{name}"


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"digest '{digest}'", "is not sha256: and 64 hex digits")
    return digest


def _generation(ref: Ref) -> str:
    return f"{ref.epoch:012}-{ref.sequence:012}"
