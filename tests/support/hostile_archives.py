"""Archives that would get out of their folder or into more memory than there is."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 3) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, size if kind == tarfile.REGTYPE else 0
    return found


def tar(folder: Path, *members: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(folder / "a.tar", mode) as opened:  # type: ignore[call-overload]
        for each in members:
            opened.addfile(each, io.BytesIO(b"x" * each.size))
    return folder / "a.tar"


def zip_of(folder: Path, *names: str, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            opened.writestr(info, b"xyz")
    return folder / "a.zip"


def bomb_tar(folder: Path, size: int) -> Path:
    """A tar.gz of zeros that unpacks to a thousand times its size."""
    with gzip.open(folder / "a.tar.gz", "wb") as packed:
        packed.write(member("zeros", size=size).tobuf())
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
    return folder / "a.tar.gz"


def bomb_zip(folder: Path, size: int) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened, opened.open("zeros", "w") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return folder / "a.zip"


def bomb_header(folder: Path, size: int) -> Path:
    """A tar.gz whose extended header says that it has as many bytes, and tarfile reads a header whole."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, size
    with gzip.open(folder / "a.tar.gz", "wb") as packed:
        packed.write(header.tobuf())
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
    return folder / "a.tar.gz"


LINKS = [
    (member("link", tarfile.SYMTYPE, "/etc"), member("link/cron")),
    (member("link", tarfile.SYMTYPE, ".."), member("link/out")),
    (member("link", tarfile.SYMTYPE, "inside"),),
    (member("hard", tarfile.LNKTYPE, "/etc/passwd"),),
    (member("a"), member("hard", tarfile.LNKTYPE, "a")),
    (member("fifo", tarfile.FIFOTYPE),),
    (member("null", tarfile.CHRTYPE),),
    (member("disk", tarfile.BLKTYPE),),
    (member("what", b"Z"),),
]
NAMES = ["/etc/cron.d/x", "../out", "a/../../out", "a\\..\\out", "..", "a/..", "x\n", "x\x1b[2J", "/".join("d" * 20), "n" * 250]
CLASHES = [
    ("a", "a"),
    ("A/x", "a/x"),
    ("A/x", "a/y"),
    ("a", "a/b"),
    ("a/b", "a"),
    ("\u00e9", "e\u0301"),
    ("stra\u00dfe", "STRASSE"),
    ("\ufb01", "fi"),
]
BOMBS = [bomb_tar, bomb_zip, bomb_header]
