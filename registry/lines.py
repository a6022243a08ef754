"""The line to a store: how many bytes a second all copies together may send and read over it."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from threading import Event

LONGEST_AHEAD = 3600.0
"""A line that claims to be taken for longer is of before the machine started again."""


class Line:
    """A bounded line. Who uses it waits until what went before is through.

    All processes of a machine that name the same file share it: it holds when the line is free, by the monotonic clock.
    """

    def __init__(self, file: Path, bytes_per_second: int) -> None:
        self.file = file
        self.bytes_per_second = bytes_per_second

    def wait(self, size: int, stopped: Event) -> None:
        """Take the line for so many bytes, and wait until they are due or until all is `stopped`."""
        stopped.wait(max(0.0, self._taken(size) - time.monotonic()))

    def _taken(self, size: int) -> float:
        """Put the moment at which the line is free behind these bytes; returns when they may go."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            now = time.monotonic()
            due = max(now, _moment(os.pread(descriptor, 64, 0), now))
            os.pwrite(descriptor, f"{due + size / self.bytes_per_second:040.12f}".encode(), 0)
            return due
        finally:
            os.close(descriptor)


def _moment(text: bytes, now: float) -> float:
    try:
        found = float(text)
    except ValueError:
        return now
    return found if found - now < LONGEST_AHEAD else now
