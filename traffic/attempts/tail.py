"""One log as it grows: its closed segments and the file that Envoy writes now, read on from where the last turn ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from traffic.attempts.store import Mark

HEAD_BYTES: Final = 2048
"""Enough for a whole line, times and request id included: two files never begin alike."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one reading gave: whole lines, in order, and whether nothing more was there to read."""

    lines: tuple[bytes, ...]
    caught_up: bool
    torn: int = 0
    truncated: int = 0


class Tail:
    """Reads one log of a folder by inode, so that renaming a file loses and repeats nothing.

    `log` is the file's name; a segment is the same name with a dot and six digits. `marks` say how far each was read.
    """

    def __init__(self, folder: Path, log: str, marks: tuple[Mark, ...]) -> None:
        self.current = folder / log
        self._log = log
        self._marks = {mark.inode: mark for mark in marks if mark.log == log and not mark.done}
        # Killed after deleting a segment, we still know its inode, which a newer file may have got
        closed = {mark.inode: mark for mark in marks if mark.log == log and mark.done}
        for path in self.segments():
            mark = closed.get(path.stat().st_ino)
            if mark is not None and _head(path, mark.offset) == mark.head:
                self._marks[mark.inode] = mark

    def marks(self) -> tuple[Mark, ...]:
        """Return how far each file was read."""
        return tuple(self._marks.values())

    def segments(self) -> list[Path]:
        """List the renamed files, oldest first."""
        return sorted(self.current.parent.glob(f"{self._log}.{'[0-9]' * 6}"))

    def read(self, most: int) -> Piece:
        """Read on, `most` bytes at a time, oldest file first."""
        # Envoy opens a file only after closing the one before, so nothing follows in any but the last: seen before reading
        reopened = self.current.exists()
        files = [*self.segments(), self.current] if reopened else self.segments()
        self._forget_missing(files)
        for path in files:
            mark, truncated = self._mark(path)
            if mark.done:
                continue
            piece, mark = _read(path, mark, most)
            closed = piece.caught_up and path != files[-1]
            if closed:
                rest = path.stat().st_size - mark.offset
                piece, mark = replace(piece, torn=piece.torn + (rest > 0)), replace(mark, done=True)
            self._marks[mark.inode] = mark
            if piece.lines or piece.torn or truncated or not closed:
                return replace(piece, truncated=truncated, caught_up=piece.caught_up and path == files[-1])
        return Piece((), caught_up=True)

    def done(self) -> list[Path]:
        """List the segments of which every line was read."""
        return [path for path in self.segments() if (mark := self._marks.get(path.stat().st_ino)) is not None and mark.done]

    def delete(self, segment: Path) -> None:
        """Delete a segment, and forget it at once: the next file may get its inode."""
        self._marks.pop(segment.stat().st_ino, None)
        segment.unlink()

    def rotate(self) -> None:
        """Close the current file by renaming it; Envoy goes on in it until it is told to open its logs anew."""
        last = self.segments()[-1:]
        number = int(last[0].suffix[1:]) + 1 if last else 1
        self.current.rename(self.current.with_name(f"{self._log}.{number:06d}"))

    def awaits_reopening(self) -> bool:
        """Tell whether Envoy still writes into a renamed file."""
        return not self.current.exists() and any(not self._mark(path)[0].done for path in self.segments())

    def _mark(self, path: Path) -> tuple[Mark, int]:
        """Find how far a file was read; a file that is not what the mark was made from is read from its start."""
        stat = path.stat()
        mark = self._marks.get(stat.st_ino)
        if mark is None:
            return Mark(self._log, stat.st_ino, 0, b""), 0
        if mark.done:
            return mark, 0
        if stat.st_size < mark.offset or _head(path, mark.offset) != mark.head:
            return Mark(self._log, stat.st_ino, 0, b""), 1
        return mark, 0

    def _forget_missing(self, files: list[Path]) -> None:
        present = {path.stat().st_ino for path in files}
        self._marks = {inode: mark for inode, mark in self._marks.items() if inode in present}


def _read(path: Path, mark: Mark, most: int) -> tuple[Piece, Mark]:
    with path.open("rb") as file:
        file.seek(mark.offset)
        data = file.read(most)
    end, caught_up = data.rfind(b"\n") + 1, len(data) < most
    lines = tuple(data[: end - 1].split(b"\n")) if end else ()
    # A line longer than a whole reading is nothing that Envoy writes: it is passed over, and told
    endless = not end and not caught_up
    offset = mark.offset + (len(data) if endless else end)
    return Piece(lines, caught_up, torn=int(endless)), replace(mark, offset=offset, head=_head(path, offset) if offset else b"")


def _head(path: Path, offset: int) -> bytes:
    # Hashed, since a line begins with its caller's address
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(min(offset, HEAD_BYTES)), digest_size=16).digest() if offset else b""
