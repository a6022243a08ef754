"""Archives, read within bounds and never unpacked to disk: what a zip file says of itself in two places must agree.

Zip is checked more strictly than zipfile reads it, because readers differ in what they forgive (CVE-2025-10155, -10156,
-10157 and CVE-2025-1889, -1944, -1945 are such differences): wrong checksums, flags, names that differ between the local
and the central header, overlapping members, data before or behind.
"""

from __future__ import annotations

import bz2
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from policies.files.seen import Bounds

CHUNK = 1 << 20
KEPT = 8 << 20
FEW = 1 << 20
MOST_MEMBERS = 10_000
_LOCAL = struct.Struct("<4s5H3I2H")
_ENCRYPTED, _STREAMED, _KNOWN_FLAGS = 0x1, 0x8, 0x1 | 0x6 | 0x8 | 0x800
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Broken(Exception):
    """The archive is not taken any further, for the reason given."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member: its name and its first bytes (all of them where `whole`)."""

    name: str
    data: bytes
    whole: bool
    size: int


def zip_members(file: IO[bytes], bounds: Bounds) -> Iterator[Member]:
    """Give the members of a zip file, each with its checksum verified; raises Broken at the first thing that is wrong."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _agree(file, archive, infos)
            left = bounds.file_bytes
            for info in infos:
                if info.is_dir():
                    continue
                data, size = _read(archive, info, bounds.ratio, left)
                left -= size
                yield Member(info.filename, data, len(data) == size, size)
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, UnicodeError, ValueError) as problem:
        raise Broken(f"the zip archive is broken ({' '.join(str(problem).split())[:150]})") from problem


def _agree(file: IO[bytes], archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """Raise Broken where the two headers of a member differ, or members overlap, or something lies between them."""
    if len(infos) > MOST_MEMBERS:
        raise Broken(f"the zip archive has {len(infos)} members, more than {MOST_MEMBERS}")
    if len({info.filename for info in infos}) != len(infos):
        raise Broken("the zip archive has two members of one name")
    end = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        _name(info)
        if info.header_offset != end:
            raise Broken(f"the zip archive has bytes before '{info.filename}' that belong to no member")
        end = _local_header(file, info)
    if archive.start_dir != end:
        raise Broken("the zip archive has bytes before its directory that belong to no member")
    _nothing_behind(file, archive)


def _nothing_behind(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    file.seek(0, io.SEEK_END)
    size = file.tell()
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) - end != 22 + len(archive.comment):
        raise Broken("the zip archive has bytes behind its end")


def _name(info: zipfile.ZipInfo) -> None:
    if why := unsafe_name(info.orig_filename):
        raise Broken(f"the zip archive has a member named {info.orig_filename[:80]!r}: {why}")
    if stat.S_ISLNK(info.external_attr >> 16) or stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Broken(f"the zip archive has the link or device '{info.filename}'")
    if info.compress_type not in _METHODS:
        raise Broken(f"the zip archive packs '{info.filename}' by method {info.compress_type}, which is neither stored nor deflate")
    if info.flag_bits & _ENCRYPTED or info.flag_bits & ~_KNOWN_FLAGS:
        raise Broken(f"the zip archive has '{info.filename}' encrypted or with flags that nothing here writes ({info.flag_bits:#x})")


def _local_header(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Check the local header against the directory's; return where the member ends."""
    file.seek(info.header_offset)
    fields = _LOCAL.unpack(file.read(_LOCAL.size))
    signature, _, flags, method, _, _, checksum, packed, size, name_length, extra_length = fields
    name = file.read(name_length)
    extra = file.read(extra_length)
    said = name.decode("utf-8" if flags & 0x800 else "cp437")
    streamed = bool(flags & _STREAMED)
    # Zip64 writers put the sizes of a member into its extra field
    sizes = (packed, size) if packed != 0xFFFFFFFF and size != 0xFFFFFFFF else _zip64(extra)
    told = (info.CRC, info.compress_size, info.file_size)
    if signature != b"PK\x03\x04" or said != info.orig_filename or method != info.compress_type or flags != info.flag_bits:
        raise Broken(f"the zip archive says two things of '{info.filename}' (its header {said[:80]!r}, its directory another)")
    if (checksum, *sizes) != told and not (streamed and (checksum, packed, size) == (0, 0, 0)):
        raise Broken(f"the zip archive says two things of the size or checksum of '{info.filename}'")
    end: int = info.header_offset + _LOCAL.size + name_length + extra_length + info.compress_size
    return end + (_descriptor(file, end, info) if streamed else 0)


def _zip64(extra: bytes) -> tuple[int, int]:
    """Return packed and real size of a Zip64 extra field."""
    if len(extra) < 20 or extra[:2] != b"\x01\x00":
        raise Broken("the zip archive has a size field that cannot be read")
    size, packed = struct.unpack_from("<2Q", extra, 4)
    return packed, size


def _descriptor(file: IO[bytes], end: int, info: zipfile.ZipInfo) -> int:
    """Return the length of the data descriptor behind a streamed member."""
    file.seek(end)
    found = file.read(16)
    if found[:4] == b"PK\x07\x08" and struct.unpack_from("<3I", found, 4) == (info.CRC, info.compress_size, info.file_size):
        return 16
    raise Broken(f"the zip archive has no true description behind '{info.filename}'")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, ratio: int, left: int) -> tuple[bytes, int]:
    """Read a member to its end, so that its checksum is verified; keep its first bytes."""
    if info.file_size > left:
        raise Broken(f"the zip archive unpacks to more than is allowed ('{info.filename}' alone to {info.file_size} bytes)")
    kept, size = io.BytesIO(), 0
    with archive.open(info) as member:
        while chunk := member.read(CHUNK):
            size += len(chunk)
            _bounded(info.filename, size, info.compress_size, ratio, left)
            if kept.tell() < KEPT:
                kept.write(chunk[: KEPT - kept.tell()])
    return kept.getvalue(), size


def _bounded(name: str, size: int, packed: int, ratio: int, left: int) -> None:
    if size > left:
        raise Broken(f"'{name}' unpacks to more than is allowed")
    if size > FEW and size > ratio * max(packed, 1):
        raise Broken(f"'{name}' unpacks to more than {ratio} times its size, as a bomb does")


def tar_members(file: IO[bytes], bounds: Bounds) -> Iterator[Member]:
    """Give the files of a tar archive, nothing extracted; raises Broken for links, devices and paths that lead out."""
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for number, info in enumerate(archive):
                if number >= MOST_MEMBERS:
                    raise Broken(f"the tar archive has more than {MOST_MEMBERS} members")
                if why := unsafe_name(info.name):
                    raise Broken(f"the tar archive has a member named {info.name[:80]!r}: {why}")
                if not (info.isreg() or info.isdir()):
                    raise Broken(f"the tar archive has '{info.name[:80]}', which is a link or a device")
                if info.isreg():
                    opened = archive.extractfile(info)
                    data = opened.read(min(KEPT, bounds.file_bytes)) if opened else b""
                    yield Member(info.name, data, len(data) == info.size, info.size)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as problem:
        raise Broken(f"the tar archive is broken ({' '.join(str(problem).split())[:150]})") from problem


def unsafe_name(name: str) -> str:
    """Return why a name in an archive or a document leads out of the folder that it belongs in; empty where it does not."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or (len(name) > 1 and name[1] == ":"):
        return "it is absolute"
    if ".." in parts:
        return "it leads upwards"
    if "\\" in name:
        return "it has a backslash"
    if not name or any(ord(sign) < 32 or ord(sign) == 127 for sign in name):
        return "it is empty or has control characters"
    return ""


UNPACKERS: dict[str, Callable[[], object]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=64 << 20),
    "lzma": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=64 << 20),
}


def unpacked(file: IO[bytes], by: str, bounds: Bounds) -> bytes:
    """Return the first bytes of a compressed stream; raises Broken for a bomb, or one that cannot be read."""
    unpacker, kept, packed = UNPACKERS[by](), io.BytesIO(), 0
    file.seek(0)
    try:
        while (chunk := file.read(1 << 14)) and not unpacker.eof:  # type: ignore[attr-defined]
            packed += len(chunk)
            kept.write(_some(unpacker, chunk))
            _bounded(f"the {by} stream", kept.tell(), packed, bounds.ratio, min(KEPT, bounds.file_bytes))
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError, ValueError) as problem:
        raise Broken(f"the {by} stream is broken ({' '.join(str(problem).split())[:100]})") from problem
    return kept.getvalue()


def _some(unpacker: object, chunk: bytes) -> bytes:
    """Unpack a chunk, to at most what is kept: the rest of a bomb stays packed."""
    return unpacker.decompress(chunk, KEPT + 1)  # type: ignore[attr-defined, no-any-return]
