"""A revision that brings a container of its owner's: what it says of itself, and the digest of an unpacked root.

Such a revision has the image as an OCI layout in `container/` beside the model in `src/model`, and a document that says
how the image is started and which root its layers must give. Whoever starts it holds the root against that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet.canonical import canonical_json, digest_of_file
from fleet.errors import IntegrityError

LAYOUT = "container"
DOCUMENT = "src/container.json"
REMEDY = "Package the version again."
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Contained:
    """How a container is started: `words` are its command, `variables` its environment as NAME=VALUE, `folder` where it begins.

    `image` is the digest of its manifest, `architecture` the machine that it is for (`amd64`), `root` the digest of what
    its layers give (`root_digest`). `memory_bytes` is what all its processes may have resident together.
    """

    image: str
    architecture: str
    words: tuple[str, ...]
    variables: tuple[str, ...]
    folder: str
    root: str
    memory_bytes: int

    def to_bytes(self) -> bytes:
        """Return it as canonical JSON."""
        return canonical_json(asdict(self))


def is_contained(root: Path) -> bool:
    """Say whether an unpacked revision brings a container of its own."""
    return (root / DOCUMENT).is_file()


def contained_in(root: Path) -> Contained:
    """Return what an unpacked revision says of its container; raises IntegrityError for a document that is none."""
    file = root / DOCUMENT
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(MOST_BYTES))
        told = Contained(
            image=str(found["image"]),
            architecture=str(found["architecture"]),
            words=tuple(map(str, found["words"])),
            variables=tuple(map(str, found["variables"])),
            folder=str(found["folder"]),
            root=str(found["root"]),
            memory_bytes=int(found["memory_bytes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise IntegrityError(str(file), f"does not say how its container is started ({type(problem).__name__})", REMEDY) from problem
    if not (told.words and _DIGEST.fullmatch(told.image) and _DIGEST.fullmatch(told.root) and told.memory_bytes > 0):
        raise IntegrityError(str(file), "does not say how its container is started", REMEDY)
    return told


def root_of(revision: Path) -> Path:
    """Return where the unpacked root of a revision's container lies: beside the revision, which holds plain files only."""
    return revision.with_name(f"{revision.name}.container")


def root_digest(root: Path) -> str:
    """Return the digest of a root file system as it lies: each path with its kind, its mode, and its bytes or its target.

    Raises IntegrityError for a device, a pipe or a socket, and for a name that is no UTF-8.
    """
    running = hashlib.sha256()
    for line in _lines(root, "", {}):
        running.update(canonical_json(line) + b"\n")
    return "sha256:" + running.hexdigest()


def _lines(root: Path, below: str, read: dict[tuple[int, int], str]) -> Iterator[list[str]]:
    """Yield what is said of each path; `read` has the digests of files of several names, which are read once."""
    with os.scandir(root / below) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path, found = f"{below}/{entry.name}".lstrip("/"), entry.stat(follow_symlinks=False)
            if not _is_text(path):
                raise IntegrityError(ascii(path), "has a name that is no UTF-8", "Rename it in the image.")
            mode = format(stat.S_IMODE(found.st_mode), "o")
            if stat.S_ISLNK(found.st_mode):
                target = str(Path(entry.path).readlink())
                yield ["link", path, "", target if _is_text(target) else ascii(target)]
            elif stat.S_ISREG(found.st_mode):
                one = (found.st_dev, found.st_ino)
                digest = read.get(one) or digest_of_file(root / path)
                if found.st_nlink > 1:
                    read[one] = digest
                yield ["file", path, mode, digest]
            elif stat.S_ISDIR(found.st_mode):
                yield ["folder", path, mode, ""]
                yield from _lines(root, path, read)
            else:
                raise IntegrityError(path, "is a device, a socket or a pipe", "Leave it out of the image.")


def _is_text(name: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in name)
