"""The manifest: which files a revision consists of, and the digest that names them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fleet.canonical import canonical_json, digest_of
from fleet.cutting import by_content, in_blocks
from fleet.errors import IntegrityError

MEDIA_TYPE = "application/vnd.convoy.revision.v1+json"
Cut = Callable[[BinaryIO, int], Iterator[bytes]]
"""Yields the parts of a file of so many bytes."""


@dataclass(frozen=True, slots=True)
class Part:
    """At most 32 MiB of a file: the unit of copying, resuming and memory."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path with forward slashes, mode (0o644 or 0o755), size in bytes, digest and parts."""

    path: str
    mode: int
    size: int
    digest: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every file of a tree, sorted by path; its own digest names the revision."""

    entries: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the digest is taken over."""
        return canonical_json(
            {
                "mediaType": MEDIA_TYPE,
                "files": [
                    {
                        "path": entry.path,
                        "mode": format(entry.mode, "o"),
                        "size": entry.size,
                        "digest": entry.digest,
                        "parts": [{"digest": part.digest, "size": part.size} for part in entry.parts],
                    }
                    for entry in self.entries
                ],
            }
        )

    @property
    def digest(self) -> str:
        """The revision's name, `sha256:<hex>`."""
        return digest_of(self.to_bytes())

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.entries)

    def parts(self) -> Iterator[Part]:
        """Yield each distinct part once, in the order of the files."""
        seen: set[str] = set()
        for entry in self.entries:
            for part in entry.parts:
                if part.digest not in seen:
                    seen.add(part.digest)
                    yield part

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest back; raises IntegrityError when it is not one of ours."""
        try:
            document = json.loads(data)
            if document["mediaType"] != MEDIA_TYPE:
                raise KeyError("mediaType")
            entries = tuple(
                Entry(
                    path=safe_path(file["path"]),
                    mode=int(file["mode"], 8),
                    size=file["size"],
                    digest=file["digest"],
                    parts=tuple(Part(part["digest"], part["size"]) for part in file["parts"]),
                )
                for file in document["files"]
            )
        except (ValueError, KeyError, TypeError) as problem:
            raise IntegrityError("manifest", f"not a Convoy manifest ({problem})", "Package the version again.") from problem
        return cls(entries)


def safe_path(path: str) -> str:
    """Return a relative path unchanged; raises IntegrityError for one that would leave its folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\\" in path or "\0" in path:
        raise IntegrityError("manifest", f"the path {path!r} leaves the revision's folder", "Package the version again.")
    return path


def manifest_of(root: Path, cut: Cut = by_content) -> Manifest:
    """Return the manifest of a folder: every file below it, nothing followed out of it.

    The parts are part of the digest: what must keep its digest over all versions of Convoy, as a model's own files that
    people sign for, is cut `in_blocks`. Raises IntegrityError for a symbolic link or a special file: neither has bytes of its own.
    """
    entries = []
    for path in sorted(root.rglob("*"), key=lambda found: found.relative_to(root).as_posix()):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(str(path), "only plain files can be packaged", "Replace the link with the file it points to.")
        if path.is_file():
            entries.append(_entry(root, path, cut))
    return Manifest(tuple(entries))


def manifest_named(root: Path, digest: str) -> Manifest:
    """Return the manifest of a folder by the cut with which it has a digest: revisions of earlier versions were cut in blocks.

    Where neither gives the digest it is the one by content. Raises IntegrityError as `manifest_of` does.
    """
    found = manifest_of(root)
    if found.digest == digest:
        return found
    earlier = manifest_of(root, in_blocks)
    return earlier if earlier.digest == digest else found


def _entry(root: Path, path: Path, cut: Cut) -> Entry:
    whole = hashlib.sha256()
    parts = []
    with path.open("rb") as file:
        for chunk in cut(file, path.stat().st_size):
            whole.update(chunk)
            parts.append(Part(digest_of(chunk), len(chunk)))
    return Entry(
        path=path.relative_to(root).as_posix(),
        mode=0o755 if path.stat().st_mode & 0o100 else 0o644,
        size=sum(part.size for part in parts),
        digest="sha256:" + whole.hexdigest(),
        parts=tuple(parts),
    )
