"""A layer's entries, one after another and in bounded memory: `tarfile` keeps all that it has seen, and believes every header."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

CHUNK = 1 << 20
MOST_HEADER = 1 << 20
"""What the headers about one entry may have together, and those about all of a layer; tarfile reads each into memory whole."""
LEAST_HEADER = MOST_HEADER // 64
"""What a header counts at least: tarfile calls itself for each."""
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@contextmanager
def reading(plain: IO[bytes]) -> Iterator[Layer]:
    """Open a layer's uncompressed bytes; raises tarfile.TarError for what is none, then and while it is read."""
    with tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK, tarinfo=_Entry) as tar:
        yield Layer(tar)


class Layer:
    """An opened layer."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        for member in self._tar:
            # It would keep each for another look, which a stream does not give
            self._tar.members.clear()  # type: ignore[attr-defined]
            yield member

    def bytes_of(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        """Yield a file's bytes; only of the entry that was read last."""
        source = self._tar.extractfile(member)
        while source is not None and (chunk := source.read(CHUNK)):
            yield chunk


class _Entry(tarfile.TarInfo):
    """An entry whose headers are of bounded size, and that has no holes: no engine writes those, and their map has no end."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        everywhere, here = getattr(tar, "convoy_headers", (0, 0))
        if self.size < 0 or self.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.HeaderError("a file with holes, or of a negative size")
        if self.type in _HEADERS:
            size = max(self.size, LEAST_HEADER)
            everywhere, here = (everywhere + size, here) if self.type == tarfile.XGLTYPE else (everywhere, here + size)
            if everywhere + here > MOST_HEADER:
                raise tarfile.HeaderError(f"headers of more than {MOST_HEADER} bytes")
        else:
            here = 0
        tar.convoy_headers = (everywhere, here)  # type: ignore[attr-defined]
        found = cast(tarfile.TarInfo, super()._proc_member(tar))  # type: ignore[misc]
        if found.size < 0 or found.sparse is not None:
            raise tarfile.HeaderError("a file with holes, or of a negative size")
        return found

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.HeaderError("a file with holes")
