"""Layers: tar files that have the same bytes whenever and wherever they are written.

Entries sorted, parents first, every time 0, every owner root, no names of owners. They are not compressed: what zlib
makes of the same bytes differs between its versions, and a registry compresses by itself.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast

from fleet.errors import IntegrityError

CHUNK = 1 << 20
FOLDER_MODE = 0o755


class Sink(Protocol):
    """What a layer is written to."""

    def write(self, data: bytes, /) -> int:
        """Take the next bytes."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry: a file with a `source`, a symbolic link with a `target`, else a folder; `path` is relative to the root."""

    path: str
    mode: int = FOLDER_MODE
    source: Path | None = None
    target: str | None = None


def tree(root: Path, below: str, without: tuple[str, ...] = ()) -> Iterator[Item]:
    """Yield the plain files of a folder as entries below a path (empty: the root), 0755 or 0644, leaving out some folders of it.

    Raises IntegrityError for a link or a special file.
    """
    for path, found in _walked(root):
        if any(path == folder or path.startswith(f"{folder}/") for folder in without):
            continue
        where = f"{below}/{path}".lstrip("/")
        if stat.S_ISDIR(found.st_mode):
            yield Item(where)
        elif stat.S_ISREG(found.st_mode):
            yield Item(where, 0o755 if found.st_mode & 0o100 else 0o644, root / path)
        else:
            raise IntegrityError(str(root / path), "is no plain file", "Replace the link with the file it points to.")


def system(root: Path) -> Iterator[Item]:
    """Yield everything of a root file system with its modes and links, as one layer.

    Set-user-ID and set-group-ID bits are left out: who runs in the image has no use for them. Raises IntegrityError for a
    device, a socket or a pipe.
    """
    for path, found in _walked(root):
        mode = found.st_mode & 0o1777
        if stat.S_ISLNK(found.st_mode):
            yield Item(path, 0o777, target=str((root / path).readlink()))
        elif stat.S_ISDIR(found.st_mode):
            yield Item(path, mode)
        elif stat.S_ISREG(found.st_mode):
            yield Item(path, mode, root / path)
        else:
            raise IntegrityError(str(root / path), "is a device, a socket or a pipe", "Leave it out of the base folder.")


def with_parents(items: Iterable[Item]) -> list[Item]:
    """Return entries sorted, with every folder that they lie in, each path once; raises IntegrityError for one that leaves the root."""
    found: dict[str, Item] = {}
    for item in items:
        pure = PurePosixPath(item.path)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise IntegrityError("layer", f"the path {item.path!r} leaves the image", "Name it below the root.")
        for parent in pure.parents:
            if parent.parts:
                found.setdefault(str(parent), Item(str(parent)))
        found[str(pure)] = item
    return [found[path] for path in sorted(found, key=lambda path: PurePosixPath(path).parts)]


def write_layer(items: Iterable[Item], sink: Sink) -> None:
    """Write entries as one tar, in the order of `with_parents`; never more than one MiB of a file is in memory.

    Raises IntegrityError for a file that became shorter while it was read.
    """
    with tarfile.open(fileobj=cast(IO[bytes], sink), mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK) as tar:
        for item in with_parents(items):
            _add(tar, item)


def _add(tar: tarfile.TarFile, item: Item) -> None:
    info = tarfile.TarInfo(item.path)
    info.mode = item.mode
    if item.target is not None:
        info.type, info.linkname = tarfile.SYMTYPE, item.target
        tar.addfile(info)
    elif item.source is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        with item.source.open("rb") as file:
            info.size = os.fstat(file.fileno()).st_size
            try:
                tar.addfile(info, file)
            except OSError as problem:
                raise IntegrityError(str(item.source), f"changed while it was read ({problem})", "Package again.") from problem


def _walked(root: Path, below: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Yield every path below a folder with what it is, following no link."""
    with os.scandir(root / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path, found = f"{below}/{entry.name}".lstrip("/"), entry.stat(follow_symlinks=False)
            yield path, found
            if stat.S_ISDIR(found.st_mode):
                yield from _walked(root, path)
