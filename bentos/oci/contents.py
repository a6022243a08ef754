"""What must be known of a base without running it: where its Python is, for which machine, and its Debian packages."""

from __future__ import annotations

import posixpath
import re
import stat
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, cast

HEAD_BYTES = 20
MOST_LINKS = 16
MOST_STATUS = 64 << 20
DPKG = "var/lib/dpkg/status"
"""Debian's record of what is installed; images without a package manager have one file each in `status.d`."""
_STATUS = re.compile(r"^Package: (\S+)$.*?^Version: (\S+)$", re.MULTILINE | re.DOTALL)
_REMOVED = re.compile(r"^Status: .* (?!installed$)\S+$", re.MULTILINE)
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts"""


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found: the first bytes of programs called python, links, and what each record of `dpkg` says is installed.

    Paths have no slash before them. `gone` are those that a layer takes off the ones below; of a folder whose name ends in
    a slash it takes what is inside.
    """

    heads: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()

    def over(self, above: Contents) -> Contents:
        """Return what is there when another layer lies above this one."""
        heads = {path: head for path, head in self.heads.items() if path not in above.links and above.leaves(path)}
        links = {path: target for path, target in self.links.items() if above.leaves(path)}
        packages = {path: found for path, found in self.packages.items() if above.leaves(path)}
        return Contents(heads | dict(above.heads), links | dict(above.links), packages | dict(above.packages))

    def leaves(self, path: str) -> bool:
        """Say whether this layer leaves a path of the ones below in its place."""
        return path not in self.gone and not any(f"/{path}".startswith(f"/{folder}".rstrip("/") + "/") for folder in self.gone)

    def head_of(self, path: str) -> bytes | None:
        """Return the first bytes of a program, through links within the root; None where there is none."""
        here = path.lstrip("/")
        for _ in range(MOST_LINKS):
            here = self._through_folders(here)
            if here in self.heads:
                return self.heads[here]
            if here not in self.links:
                return None
            here = _joined(posixpath.dirname(here), self.links[here])
        return None

    def has_package(self, wanted: str) -> bool:
        """Say whether a Debian package is installed, in its version where one is asked for (`name=version`)."""
        name, _, version = wanted.partition("=")
        return any(name in found and version in ("", found[name]) for found in self.packages.values())

    def _through_folders(self, path: str) -> str:
        """Replace folders that are links, as /bin often is."""
        for _ in range(MOST_LINKS):
            parts = path.split("/")
            prefixes = ["/".join(parts[:count]) for count in range(1, len(parts))]
            linked = next((prefix for prefix in prefixes if prefix in self.links), None)
            if linked is None:
                return path
            path = _joined(posixpath.dirname(linked), self.links[linked]) + path[len(linked) :]
        return path


class Source(Protocol):
    """What a layer is read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""


def in_layer(file: Source, python: str, seen: Callable[[bytes], None]) -> Contents:
    """Read a layer (an uncompressed tar) once from end to end, giving every byte to `seen`; nothing is unpacked."""
    heads: dict[str, bytes] = {}
    links: dict[str, str] = {}
    packages: dict[str, dict[str, str]] = {}
    gone: set[str] = set()
    watched = _Watched(file, seen)
    with tarfile.open(fileobj=cast(IO[bytes], watched), mode="r|", bufsize=1 << 20) as tar:
        for member in tar:
            path = posixpath.normpath(member.name).lstrip("/")
            folder, name = posixpath.split(path)
            if name.startswith(WHITEOUT):
                gone.add(f"{folder}/" if name == OPAQUE else posixpath.join(folder, name.removeprefix(WHITEOUT)))
            elif member.issym():
                links[path] = member.linkname
            elif member.islnk():
                links[path] = "/" + member.linkname.lstrip("/")
            elif member.isreg() and _is_python(path, python):
                heads[path] = _bytes(tar, member, HEAD_BYTES)
            elif member.isreg() and _is_status(path):
                packages[path] = _packages(_bytes(tar, member, MOST_STATUS))
    watched.finish()
    return Contents(heads, links, packages, frozenset(gone))


def in_folder(root: Path, python: str) -> Contents:
    """Look at a root file system as it lies; follows no link out of it."""
    heads: dict[str, bytes] = {}
    links: dict[str, str] = {}
    packages: dict[str, dict[str, str]] = {}
    for entry in sorted(root.rglob("*")):
        path, found = entry.relative_to(root).as_posix(), entry.lstat()
        if stat.S_ISLNK(found.st_mode):
            links[path] = str(entry.readlink())
        elif stat.S_ISREG(found.st_mode) and _is_python(path, python):
            with entry.open("rb") as file:
                heads[path] = file.read(HEAD_BYTES)
        elif stat.S_ISREG(found.st_mode) and _is_status(path):
            packages[path] = _packages(entry.read_bytes()[:MOST_STATUS])
    return Contents(heads, links, packages)


class _Watched:
    """Reads a file and gives every byte to somebody else too."""

    def __init__(self, file: Source, seen: Callable[[bytes], None]) -> None:
        self._file, self._seen = file, seen

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._seen(data)
        return data

    def finish(self) -> None:
        """Read what stands behind the end of the tar."""
        while self.read(1 << 20):
            pass


def _is_python(path: str, python: str) -> bool:
    return posixpath.basename(path) == f"python{python}" and "bin" in path.split("/")


def _is_status(path: str) -> bool:
    return path == DPKG or (path.startswith(f"{DPKG}.d/") and not path.endswith(".md5sums"))


def _packages(data: bytes) -> dict[str, str]:
    paragraphs = data.decode("utf-8", "replace").split("\n\n")
    found = (_STATUS.search(paragraph) for paragraph in paragraphs if not _REMOVED.search(paragraph))
    return {match[1]: match[2] for match in found if match}


def _bytes(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read(most)


def _joined(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/" + folder, target)).lstrip("/")
