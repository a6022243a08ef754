"""How much a serving process answered, by kind of traffic: counters in a small mapped file that outlives the process.

The file is self-describing, so that whoever bills needs no other record (all numbers are 64 bits, in the machine's order):

    0      b"CONVOYU1"
    8      the process that writes now
    16     when the counters began (Unix nanoseconds): others than before are a new count
    24     per traffic in the order of TRAFFIC: requests, failed, bytes in, bytes out
    512    {"model":..,"region":..,"revision":..} as JSON, filled up with spaces to the file's end

The pages belong to the kernel: SIGKILL loses nothing that was counted, and the next process goes on adding.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import time
from pathlib import Path

from .errors import told
from .log import say
from .settings import ServiceSettings

MAGIC = b"CONVOYU1"
TRAFFIC = ("live", "canary", "drill", "unlabelled", "shadow", "pinned", "golden")
"""What the request's header says: the edge writes it, whoever asks for golden answers says so, and `unlabelled` is the rest.

New ones go to the end.
"""
FIGURES = 4
FIRST = 3
LABEL_AT = 512
SIZE = 4096
LOCK_SECONDS = 0.5
AGAIN_SECONDS = 1.0


class Usage:
    """Counts the answers of one process; without a file, or with one that cannot be had, it counts nothing.

    A file that another process still has (one before it, which drains) is waited for: until then it counts in memory.
    Not for several threads: the event loop alone counts.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._words: memoryview | None = None
        self._path = settings.usage
        self._again = math.inf
        label = {"model": settings.model or "", "region": settings.region, "revision": settings.revision or ""}
        self._label = json.dumps(label, sort_keys=True).encode()
        if self._path is not None:
            self._begin(self._path, LOCK_SECONDS)

    def count(self, traffic: bytes, status: int, size_in: int, size_out: int) -> None:
        """Count one answered request: its label from the edge, the answer's status, the bytes of both bodies."""
        if self._words is None:
            return
        if time.monotonic() >= self._again and self._path is not None:
            self._begin(self._path, 0.0)
        at = FIRST + FIGURES * LABELS.get(traffic, UNLABELLED)
        # Each store is one aligned word, so that a reader never sees half a number
        self._words[at] += 1
        self._words[at + 1] += 0 if 200 <= status < 300 else 1
        self._words[at + 2] += size_in
        self._words[at + 3] += size_out

    def _begin(self, path: Path, seconds: float) -> None:
        """Count in the file from now on, what was counted so far included; in memory where another process has it."""
        before = self._words
        try:
            words = _mapped(path, self._label, seconds)
        except BlockingIOError:
            if before is None:
                say(f"usage is counted in memory until another process lets go of {path}")
            self._words = memoryview(bytearray(SIZE)).cast("Q") if before is None else before
            self._again = time.monotonic() + AGAIN_SECONDS
            return
        except OSError as problem:
            # Callers are answered all the same: what cannot be billed is said, not refused
            say(f"usage is not counted: {path}: {told(problem)}")
            self._words = None
            return
        for at in range(FIRST, FIRST + FIGURES * len(TRAFFIC)):
            words[at] += 0 if before is None else before[at]
        self._words, self._again = words, math.inf


LABELS = {name.encode(): index for index, name in enumerate(TRAFFIC)}
UNLABELLED = LABELS[b"unlabelled"]


def _mapped(path: Path, label: bytes, seconds: float) -> memoryview:
    """Return the file's words, the file made or begun anew where it is not ours; raises OSError, also when another process has it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = _locked(path, seconds)
    try:
        before = os.pread(descriptor, SIZE, 0)
        # Reserved on the disk now: a full disk must be an error here, not a SIGBUS at the first answer
        os.posix_fallocate(descriptor, 0, SIZE)
        # It keeps a descriptor of its own, and with it the lock
        mapped = mmap.mmap(descriptor, SIZE)
    finally:
        os.close(descriptor)
    if before[:8] != MAGIC or before[LABEL_AT:].rstrip() != label:
        mapped[:] = bytes(LABEL_AT) + label.ljust(SIZE - LABEL_AT)
        memoryview(mapped).cast("Q")[2] = time.time_ns()
        mapped[:8] = MAGIC
    words = memoryview(mapped).cast("Q")
    words[1] = os.getpid()
    return words


def _locked(path: Path, seconds: float) -> int:
    """Open the file and hold it for as long as the process lives; whoever tidies up holds the same lock while it deletes."""
    deadline = time.monotonic() + seconds
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise
        os.close(descriptor)
        time.sleep(0.02)
