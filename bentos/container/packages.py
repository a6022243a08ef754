"""What package managers say of a container's root: the only list of its parts that can be had without running it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 64 << 20
DPKG, DPKG_PARTS, APK = "var/lib/dpkg/status", "var/lib/dpkg/status.d", "lib/apk/db/installed"
UNREAD = {"var/lib/rpm": "rpm", "usr/lib/sysimage/rpm": "rpm", "nix/store": "Nix"}
"""Records that nothing here reads."""
ALWAYS = "files that no package manager recorded are not listed: what was copied in or compiled, and libraries within programs"
MOST_PACKAGES = 50_000
_WORD = re.compile(r"\S{1,200}")


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A package of a kind of package URLs (`deb`, `apk`, `pypi`), by its name and version."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Told:
    """The packages that are recorded, each once, sorted; and in words what cannot be told."""

    packages: tuple[Found, ...]
    untold: tuple[str, ...]


def packages_in(root: Path) -> Told:
    """Return what the package managers recorded in an unpacked root; no link is followed, nothing is run."""
    found: set[Found] = set()
    untold = {ALWAYS}
    for path in _files(root):
        relative = path.relative_to(root).as_posix()
        folder, _, name = relative.rpartition("/")
        if relative == DPKG or (folder == DPKG_PARTS and not name.endswith(".md5sums")):
            found |= set(_recorded("deb", ("Package", "Version"), _text(path).split("\n\n")))
        elif relative == APK:
            found |= set(_recorded("apk", ("P", "V"), _text(path).split("\n\n")))
        elif name == "METADATA" and folder.endswith(".dist-info"):
            found |= set(_recorded("pypi", ("Name", "Version"), _text(path).split("\n\n", 1)[:1]))
        untold |= {f"what {tool} recorded is not read" for place, tool in UNREAD.items() if folder.startswith(place)}
    if len(found) > MOST_PACKAGES:
        untold.add(f"more than {MOST_PACKAGES} packages are recorded, and the others are not listed")
    return Told(tuple(sorted(found)[:MOST_PACKAGES]), tuple(sorted(untold)))


def _files(root: Path) -> Iterator[Path]:
    """Yield the files of a root, each once: one of many names would be read as often."""
    seen: set[tuple[int, int]] = set()
    for here, _, names in os.walk(root):
        for path in (Path(here, name) for name in sorted(names)):
            told = path.lstat()
            if stat.S_ISREG(told.st_mode) and (told.st_nlink == 1 or (told.st_dev, told.st_ino) not in seen):
                seen.add((told.st_dev, told.st_ino))
                yield path


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_BYTES).decode("utf-8", "replace")


def _recorded(kind: str, keys: tuple[str, str], paragraphs: Sequence[str]) -> Iterator[Found]:
    """Yield the packages of paragraphs of `Key: value`; what dpkg only remembers was taken out."""
    for paragraph in paragraphs:
        fields: dict[str, str] = {}
        for line in paragraph.splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key, value.strip())
        name, version = (fields.get(key, "") for key in keys)
        if _WORD.fullmatch(name) and _WORD.fullmatch(version) and not fields.get("Status", "").startswith("deinstall"):
            yield Found(kind, re.sub(r"[-_.]+", "-", name).lower() if kind == "pypi" else name, version)
