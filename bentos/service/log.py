"""The log of a serving process."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(text: str) -> None:
    """Write a line to the process's log, which is its standard error; where nobody takes it any more it is lost."""
    write(f"convoy_service: {text}")


def write(line: str) -> None:
    """Write a line as it is; one that cannot be written costs no answer."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201  the log of a supervised process
