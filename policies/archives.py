"""Unpacks an archive from elsewhere: plain files below one folder, of bounded number and size, and nothing else.

A link that a later member is written through, an absolute name, `..`, a device, or a thousand megabytes in one: each has
been a way out of somebody's folder or memory (CVE-2026-27905 of BentoML among them). So links are refused altogether,
names are checked by us and by Python's own filter (PEP 706), and bytes are counted as they come, not as they are declared.
"""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fleet.errors import InputError, Refused

CHUNK = 1 << 20
MOST_AT_ONCE = 4 << 20
"""Bytes that one read may ask for: tarfile reads a header's extension whole, however long it says that it is."""
SLACK = 1 << 20
REMEDY = "Nothing of it was kept; make the archive again from plain files."


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold: files, bytes of a file and of all, how many times its own size, folders deep, a name's bytes."""

    files: int = 500_000
    file: int = 64 << 20
    total: int = 4 << 30
    ratio: int = 200
    depth: int = 16
    name: int = 200


def unpack(archive: Path, to: Path, bounds: Bounds) -> int:
    """Unpack a tar, tar.gz or zip into a new folder and return how many files it held; on any error the folder is gone.

    Raises Refused, which names the member, for what is no plain file in its own place or is more than the bounds allow;
    InputError for what is no such archive.
    """
    to.mkdir(parents=True)
    try:
        with _translated(archive):
            writer = _Writer(to, bounds, min(bounds.total, archive.stat().st_size * bounds.ratio + SLACK))
            (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, writer)
            return writer.files
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise


@dataclass
class _Writer:
    """Writes members below a folder, each name once, counting."""

    root: Path
    bounds: Bounds
    room: int
    files: int = 0
    written: int = 0
    taken: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """Every name so far, by how a file system may see it that knows no case: as it was written, and whether it is a folder."""

    def folder(self, name: str) -> None:
        """Take note of a folder; it is made when a file needs it."""
        self._take(PurePosixPath(name.rstrip("/")), folder=True)

    def file(self, name: str, source: IO[bytes]) -> None:
        """Write one file as it comes."""
        self.files += 1
        if self.files > self.bounds.files:
            raise Refused(name, f"is beyond the {self.bounds.files} files that an archive may hold", REMEDY)
        path = PurePosixPath(name)
        self._take(path, folder=False)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        size = 0
        with target.open("xb") as file:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                self.written += len(chunk)
                if size > self.bounds.file or self.written > self.room:
                    raise Refused(name, f"unpacks to more than {min(self.bounds.file, self.room)} bytes may be", REMEDY)
                file.write(chunk)

    def _take(self, path: PurePosixPath, *, folder: bool) -> None:
        name = str(path)
        if path.is_absolute() or ".." in path.parts or "\\" in name or any(not sign.isprintable() for sign in name):
            raise Refused(repr(name), "is no name of a file below a folder", REMEDY)
        if len(path.parts) > self.bounds.depth or any(len(part.encode()) > self.bounds.name for part in path.parts):
            raise Refused(name[:80], "lies too deep, or has too long a name", REMEDY)
        for above in reversed(path.parents[:-1]):
            self._note(above, folder=True)
        if path.parts:
            self._note(path, folder=folder)

    def _note(self, path: PurePosixPath, *, folder: bool) -> None:
        folded, here = unicodedata.normalize("NFKC", str(path)).casefold(), (str(path), folder)
        if self.taken.setdefault(folded, here) != here or (not folder and folded in self._files):
            raise Refused(str(path), "is there twice, or under a name that some file systems take for the same", REMEDY)
        if not folder:
            self._files.add(folded)

    _files: set[str] = field(default_factory=set)


def _untar(archive: Path, writer: _Writer) -> None:
    with archive.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Bounded(gzip.GzipFile(fileobj=raw) if packed else raw, writer.room + writer.bounds.files * 1024 + SLACK)
        with tarfile.open(fileobj=stream, mode="r:") as opened:
            for member in opened:
                _untar_member(opened, member, writer)


def _untar_member(opened: tarfile.TarFile, member: tarfile.TarInfo, writer: _Writer) -> None:
    name = member.name.removeprefix("./")
    if member.isdir():
        writer.folder(name)
        return
    if not member.isreg() or member.issparse():
        raise Refused(repr(name), "is a link, a device or another thing that is no plain file", REMEDY)
    try:
        tarfile.data_filter(member, str(writer.root))
    except tarfile.FilterError as problem:
        raise Refused(repr(name), f"is refused by Python's filter ({type(problem).__name__})", REMEDY) from problem
    source = opened.extractfile(member)
    assert source is not None, "a regular member has bytes"
    writer.file(name, source)


def _unzip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            # zipfile itself cuts a name at its first zero byte
            if "\0" in member.orig_filename or "\\" in member.orig_filename:
                raise Refused(repr(member.orig_filename), "is no name of a file below a folder", REMEDY)
            if member.is_dir():
                writer.folder(member.filename)
                continue
            if kind not in (0, stat.S_IFREG) or member.flag_bits & 0x1:
                raise Refused(repr(member.filename), "is a link, a device or encrypted", REMEDY)
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(repr(member.filename), "is compressed in a way that is not read", REMEDY)
            with opened.open(member) as source:
                writer.file(member.filename, source)


class _Bounded(io.RawIOBase):
    """A stream of which one read gives a bounded number of bytes, and all reads together too."""

    def __init__(self, inner: Any, most: int) -> None:
        self._inner, self._most = inner, most

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MOST_AT_ONCE:
            raise Refused("archive", f"has a header of more than {MOST_AT_ONCE} bytes", REMEDY)
        self._within(self._inner.tell() + size)
        return bytes(self._inner.read(size))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET:
            self._within(offset)
        return int(self._inner.seek(offset, whence))

    def tell(self) -> int:
        return int(self._inner.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _within(self, position: int) -> None:
        if position > self._most:
            raise Refused("archive", f"unpacks to more than {self._most} bytes", REMEDY)


@contextmanager
def _translated(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        NotImplementedError,
        UnicodeError,
        OSError,
        RuntimeError,
    ) as problem:
        raise InputError(str(archive), f"cannot be unpacked ({type(problem).__name__})", "Give a tar, tar.gz or zip archive.") from problem
