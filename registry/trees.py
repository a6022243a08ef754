"""Folders as parts and back again, one part in memory at a time."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fleet.errors import IntegrityError
from fleet.manifest import Entry, Manifest, Part

LEFT_SECONDS = 3600.0
RANDOM_CHARACTERS = 8
"""How many `tempfile.mkdtemp` appends, of `[a-z0-9_]`."""


def pieces(root: Path, manifest: Manifest) -> Iterator[tuple[Part, bytes]]:
    """Yield each distinct part of a folder once, with its bytes, in the order of the files."""
    seen: set[str] = set()
    for entry in manifest.entries:
        with (root / entry.path).open("rb") as file:
            for part in entry.parts:
                if part.digest in seen:
                    file.seek(part.size, os.SEEK_CUR)
                    continue
                seen.add(part.digest)
                yield part, file.read(part.size)


@contextmanager
def built_aside(to: Path) -> Iterator[Path]:
    """Give an empty folder beside `to` that the block fills and renames; what is not renamed is deleted.

    So is what one who was killed left beside the same `to` more than an hour ago.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    for left in left_aside(to.parent, to.name):
        shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-"))
    with _in_use(aside):
        try:
            aside.chmod(0o755)
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def left_aside(parent: Path, name: str = "*", seconds: float = LEFT_SECONDS) -> tuple[Path, ...]:
    """Return the folders of `built_aside` in a parent that nobody fills any more and that are older than `seconds`."""
    pattern = f".{glob.escape(name) if name != '*' else name}-" + "[a-z0-9_]" * RANDOM_CHARACTERS
    found = []
    for folder in sorted(parent.glob(pattern)):
        # What was renamed or deleted meanwhile is no leftover.
        with suppress(FileNotFoundError):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > seconds and not _is_in_use(folder):
                found.append(folder)
    return tuple(found)


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder, which the kernel releases however the process ends."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_in_use(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def unpack(manifest: Manifest, read: Callable[[str], bytes], to: Path) -> None:
    """Build the folder that a manifest describes and rename it to `to`; `read` gives a part's checked bytes.

    When another process was quicker, its folder is kept.
    """
    with built_aside(to) as aside:
        for entry in manifest.entries:
            _write(entry, read, aside)
        try:
            aside.rename(to)
        except OSError:
            if not to.is_dir():
                raise


def _write(entry: Entry, read: Callable[[str], bytes], root: Path) -> None:
    path = root / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with path.open("xb") as file:
        for part in entry.parts:
            data = read(part.digest)
            whole.update(data)
            file.write(data)
    path.chmod(entry.mode & 0o777)
    if "sha256:" + whole.hexdigest() != entry.digest:
        raise IntegrityError(entry.path, f"its parts do not make {entry.digest}", "Package the version again.")
