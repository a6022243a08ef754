"""The closed world: a folder is a revision only if it has every file of the manifest and nothing else whatever.

What a manifest made anew of the folder would not tell: empty folders, names that are one on a disk that does not tell
capitals or accents apart, a link or a device (which it stops at), and the folder itself being a link.
"""

from __future__ import annotations

import hashlib
import os
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from fleet.canonical import CHUNK
from fleet.manifest import Entry, Manifest


def differences(root: Path, manifest: Manifest) -> tuple[str, ...]:
    """Return in words everything in which a folder is not what a manifest says, nothing when it is; follows no link."""
    expected = {entry.path: entry for entry in manifest.entries}
    if len(expected) != len(manifest.entries):
        return ("the manifest has a path twice",)
    if root.is_symlink() or not root.is_dir():
        return (f"{root} is not a folder",)
    found = dict(_walked(root, PurePosixPath()))
    folders = {str(parent) for path in expected for parent in PurePosixPath(path).parents}
    told = [f"{path!r} is missing" for path in expected if path not in found]
    for path, entry in found.items():
        if stat.S_ISDIR(entry.st_mode):
            told += [] if path in folders else [f"the folder {path!r} is not in the manifest"]
        elif not stat.S_ISREG(entry.st_mode):
            told.append(f"{path!r} is no plain file")
        elif path not in expected:
            told.append(f"{path!r} is not in the manifest")
        else:
            told += _changed(root / path, entry, expected[path])
    return tuple(sorted(told))


def clashes(paths: Iterable[str]) -> tuple[str, ...]:
    """Return in words which paths are one on a disk that does not tell capitals from small letters, or accents' spellings apart."""
    same: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        for part in (PurePosixPath(path), *PurePosixPath(path).parents):
            same[unicodedata.normalize("NFC", str(part).casefold())].add(str(part))
    return tuple(f"{' and '.join(map(repr, sorted(names)))} are one name on some disks" for names in same.values() if len(names) > 1)


def _walked(root: Path, below: PurePosixPath) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            path, found = below / entry.name, entry.stat(follow_symlinks=False)
            yield str(path), found
            if stat.S_ISDIR(found.st_mode):
                yield from _walked(root, path)


def _changed(path: Path, found: os.stat_result, entry: Entry) -> list[str]:
    told = []
    if found.st_size != entry.size or _digest(path) != entry.digest:
        told.append(f"{entry.path!r} has other bytes")
    if (found.st_mode & 0o100 != 0) != (entry.mode & 0o100 != 0):
        told.append(f"{entry.path!r} may{'' if found.st_mode & 0o100 else ' not'} be run, unlike in the manifest")
    return told


def _digest(path: Path) -> str:
    """Return the digest of a file, an empty text for one that cannot be read."""
    running = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        while chunk := file.read(CHUNK):
            running.update(chunk)
    return "sha256:" + running.hexdigest()
