"""What package managers say of a container's root: the only list of its parts that can be had without running it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 64 << 20
DPKG, DPKG_PARTS, APK = "var/lib/dpkg/status", "var/lib/dpkg/status.d", "lib/apk/db/installed"
UNREAD = {"var/lib/rpm": "rpm", "usr/lib/sysimage/rpm": "rpm", "nix/store": "Nix"}
"""Records that nothing here reads."""
ALWAYS = "files that no package manager recorded are not listed: what was copied in or compiled, and libraries within programs"
_DEBIAN = re.compile(r"^Package: (\S+)$.*?^Version: (\S+)$", re.MULTILINE | re.DOTALL)
_ALPINE = re.compile(r"^P:(\S+)$.*?^V:(\S+)$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^(Name|Version): (\S+)\s*$", re.MULTILINE)


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
            found |= set(_paragraphs("deb", _DEBIAN, _text(path)))
        elif relative == APK:
            found |= set(_paragraphs("apk", _ALPINE, _text(path)))
        elif name == "METADATA" and folder.endswith(".dist-info"):
            found |= set(_python(_text(path)))
        untold |= {f"what {tool} recorded is not read" for place, tool in UNREAD.items() if folder.startswith(place)}
    return Told(tuple(sorted(found)), tuple(sorted(untold)))


def _files(root: Path) -> Iterator[Path]:
    for here, _, names in os.walk(root):
        yield from (path for name in names if not (path := Path(here, name)).is_symlink())


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_BYTES).decode("utf-8", "replace")


def _paragraphs(kind: str, form: re.Pattern[str], text: str) -> Iterator[Found]:
    for paragraph in text.split("\n\n"):
        if "deinstall" not in paragraph.partition("\nDescription:")[0] and (match := form.search(paragraph)):
            yield Found(kind, match[1], match[2])


def _python(text: str) -> Iterator[Found]:
    told = dict(_PYTHON.findall(text.partition("\n\n")[0]))
    if len(told) == 2:
        yield Found("pypi", re.sub(r"[-_.]+", "-", told["Name"]).lower(), told["Version"])
