"""The log of a serving process."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """Write a line to the process's log, which is its standard error."""
    print(f"convoy_service: {text}", file=sys.stderr, flush=True)  # noqa: T201  the log of a supervised process
