"""Files and locks of the local cloud."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleet.errors import Busy

POLL_SECONDS = 0.05


def private_folder(folder: Path) -> Path:
    """Make a folder, and each above it that is missing, for its owner alone; return it."""
    for missing in reversed([parent for parent in (folder, *folder.parents) if not parent.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_private(file: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    draft = file.with_name(f".{uuid.uuid4().hex}.draft")
    try:
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(data)
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


def write_durably(file: Path, data: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and on the disk before it is seen."""
    draft = file.with_name(f".{uuid.uuid4().hex}.draft")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def exclusive(file: Path, seconds: float) -> Iterator[None]:
    """Hold a lock that dies with its process; raises Busy when it was not free within `seconds`."""
    private_folder(file.parent)
    deadline = time.monotonic() + seconds
    with file.open("a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy(str(file), f"somebody else has held this lock for {seconds:.0f} s", "Try again.") from None
                time.sleep(POLL_SECONDS)
        yield


def tail(file: Path, most: int) -> str:
    """Return the last bytes of a log as text, empty where there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - most))
            return log.read(most).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""
