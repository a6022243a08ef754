"""The counters that a serving process keeps (bentos/service/usage.py says how the file is laid out), read; and kept for others.

A container of a model's owner counts nothing: its front does, in the same form.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".counters"
MAGIC = b"CONVOYU1"
TRAFFIC = ("live", "canary", "drill", "unlabelled", "shadow", "pinned", "golden")
LABEL_AT = 512
SIZE = 4096
_WORDS = struct.Struct(f"={3 + 4 * len(TRAFFIC)}Q")


class Figures(NamedTuple):
    """What was answered of one kind of traffic: requests, those of them without a 2xx, and the bytes of their bodies."""

    requests: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def since(self, before: Figures) -> Figures:
        """Return what was added to an earlier reading of the same counters."""
        return Figures(*(max(0, now - then) for now, then in zip(self, before, strict=True)))


@dataclass(frozen=True, slots=True)
class Counters:
    """One reading of a program's counters: whose they are, the process that wrote last, and the figures by traffic.

    `born` says when they began to count (Unix nanoseconds): with another one they are other counters.
    """

    model: str
    region: str
    revision: str
    pid: int
    born: int
    figures: Mapping[str, Figures]


def read_counters(file: Path) -> Counters | None:
    """Return what a file holds; None for one that is gone, or that its process has not begun to write."""
    try:
        data = file.read_bytes()
        if len(data) != SIZE or data[:8] != MAGIC:
            return None
        label = json.loads(data[LABEL_AT:])
    except (FileNotFoundError, ValueError):
        return None
    _, pid, born, *words = _WORDS.unpack_from(data)
    figures = {name: Figures(*words[4 * index : 4 * index + 4]) for index, name in enumerate(TRAFFIC)}
    return Counters(label["model"], label["region"], label["revision"], pid, born, figures)


def counting(file: Path, label: Mapping[str, str], pid: int) -> Callable[[str, int, int, int], None]:
    """Return what counts an answer into a file: its traffic, status, and the bytes of both bodies; the file is made or gone on with.

    It may be handed to a child, and to one alone. The file is held for as long as this process lives. Raises OSError.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    before, told = os.pread(descriptor, SIZE, 0), json.dumps(dict(label), sort_keys=True).encode()
    os.posix_fallocate(descriptor, 0, SIZE)
    mapped = mmap.mmap(descriptor, SIZE)
    if before[:8] != MAGIC or before[LABEL_AT:].rstrip() != told:
        mapped[:] = bytes(LABEL_AT) + told.ljust(SIZE - LABEL_AT)
        memoryview(mapped).cast("Q")[2] = time.time_ns()
        mapped[:8] = MAGIC
    words = memoryview(mapped).cast("Q")
    words[1] = pid

    def count(traffic: str, status: int, size_in: int, size_out: int) -> None:
        at = 3 + 4 * TRAFFIC.index(traffic if traffic in TRAFFIC else "unlabelled")
        words[at] += 1
        words[at + 1] += 0 if 200 <= status < 300 else 1
        words[at + 2] += size_in
        words[at + 3] += size_out

    return count
