"""An OCI layout folder: blobs named by their digest, and an index of what it holds.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from bentos.oci.kinds import INDEX, Descriptor
from bentos.oci.layers import Sink
from fleet.canonical import CHUNK, canonical_json, digest_of, digest_of_file
from fleet.errors import InputError, IntegrityError

MOST_JSON = 8 << 20
VERSION = {"imageLayoutVersion": "1.0.0"}
REMEDY = "Make the layout again, for instance with `skopeo copy --all`."


class Layout:
    """A layout folder; nothing is opened or made until it is asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def is_one(cls, folder: Path) -> bool:
        """Say whether a folder is an OCI layout."""
        return (folder / "oci-layout").is_file()

    def blob(self, digest: str) -> Path:
        """Return where a blob lies, or will."""
        return self.root / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Write a small blob and return its descriptor; the same one again changes nothing."""
        return self.stream(lambda sink: _all(sink, data), media_type)

    def put_json(self, document: Mapping[str, Any], media_type: str) -> Descriptor:
        """Write a document as canonical JSON (RFC 8785) and return its descriptor."""
        return self.put(canonical_json(document), media_type)

    def stream(self, write: Callable[[Sink], None], media_type: str) -> Descriptor:
        """Write a blob of any size as it comes, and return its descriptor; only its name is known last."""
        folder = self.root / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".partial-", delete=False) as file:
            aside = Path(file.name)
            try:
                sink = _Hashing(file)
                write(sink)
            except BaseException:
                aside.unlink()
                raise
        aside.chmod(0o644)
        found = Descriptor(media_type, sink.digest, sink.size)
        aside.replace(self.blob(found.digest))
        return found

    def take(self, source: Layout, wanted: Descriptor, media_type: str) -> Descriptor:
        """Copy a blob of another layout, checked; raises IntegrityError when it is missing or has other bytes."""

        def write(sink: Sink) -> None:
            with source.open(wanted) as file:
                while chunk := file.read(CHUNK):
                    sink.write(chunk)

        found = self.stream(write, media_type)
        if (found.digest, found.size) != (wanted.digest, wanted.size):
            self.blob(found.digest).unlink()
            raise IntegrityError(str(source.blob(wanted.digest)), "has other bytes than its name says", REMEDY)
        return found

    def open(self, wanted: Descriptor) -> BinaryIO:
        """Open a blob, unchecked; raises IntegrityError when it is missing or no file: a pipe or a device may have no end."""
        if self.blob(wanted.digest).exists() and not self.blob(wanted.digest).is_file():
            raise IntegrityError(str(self.blob(wanted.digest)), "is no file", REMEDY)
        try:
            return self.blob(wanted.digest).open("rb")
        except OSError as problem:
            raise IntegrityError(str(self.blob(wanted.digest)), f"cannot be read ({problem.strerror})", REMEDY) from problem

    def check(self, wanted: Descriptor) -> None:
        """Read a blob whole; raises IntegrityError when it is missing or has other bytes."""
        if not self.blob(wanted.digest).is_file() or digest_of_file(self.blob(wanted.digest)) != wanted.digest:
            raise IntegrityError(str(self.blob(wanted.digest)), "is missing or has other bytes than its name says", REMEDY)

    def read(self, wanted: Descriptor) -> Any:
        """Return a JSON blob, checked; raises IntegrityError when it is missing, too large, other bytes or no mapping."""
        with self.open(wanted) as file:
            data = file.read(MOST_JSON + 1)
        if digest_of(data) != wanted.digest:
            raise IntegrityError(str(self.blob(wanted.digest)), "has other bytes than its name says", REMEDY)
        return _mapping(data, str(self.blob(wanted.digest)))

    def manifests(self) -> tuple[Descriptor, ...]:
        """Return what the layout's index lists; raises InputError for a folder that is no layout."""
        file = self.root / "index.json"
        try:
            data = file.read_bytes() if file.stat().st_size <= MOST_JSON else b""
        except OSError as problem:
            raise InputError(str(self.root), f"is no OCI layout (index.json: {problem.strerror})", REMEDY) from problem
        listed = _mapping(data, str(file)).get("manifests")
        if not isinstance(listed, list) or not listed:
            raise InputError(str(self.root), "is an OCI layout without an image", REMEDY)
        return tuple(Descriptor.of_json(found, str(file)) for found in listed)

    def finish(self, manifests: Sequence[Descriptor]) -> None:
        """Write what makes the folder a layout, last: which images it holds."""
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [found.as_json() for found in manifests]}
        (self.root / "oci-layout").write_bytes(canonical_json(VERSION))
        (self.root / "index.json").write_bytes(canonical_json(document))


class _Hashing:
    """Passes bytes on to a file and keeps their digest and number."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._running = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._running.update(data)
        self.size += len(data)
        return self._file.write(data)

    @property
    def digest(self) -> str:
        return "sha256:" + self._running.hexdigest()


def _all(sink: Sink, data: bytes) -> None:
    sink.write(data)


def _mapping(data: bytes, subject: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise IntegrityError(subject, "is no JSON", REMEDY) from problem
    if not isinstance(document, dict):
        raise IntegrityError(subject, "is no JSON object", REMEDY)
    return document
