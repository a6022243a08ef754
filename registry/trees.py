"""Folders as parts and back again, one part in memory at a time."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import IntegrityError
from fleet.manifest import Entry, Manifest, Part


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
    """Give an empty folder beside `to` that the block fills and renames; what is not renamed is deleted."""
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=to.parent, prefix=f".{to.name}-"))
    try:
        aside.chmod(0o755)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


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
