"""Sampled requests, one line of JSON each in the log: where its time went, never what it held.

W3C Trace Context (https://www.w3.org/TR/trace-context/): a request whose `traceparent` is sampled is traced under its trace,
another one by the rate of the setting `trace_rate`. A caller may ask for any number of traces and gets MOST_A_SECOND.
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass

from . import log

PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
SAMPLED = 1
MOST_A_SECOND = 20
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Trace:
    """One sampled request: its trace, the caller's span (empty where it began here) and its own."""

    trace: str
    parent: str
    span: str


class Traces:
    """Decides what is traced and writes it; `rate` is how many requests in a million."""

    def __init__(self, rate: int) -> None:
        self._rate = rate / MILLION
        self._second, self._left = 0, MOST_A_SECOND

    def sampled(self, parent: bytes) -> Trace | None:
        """Return a trace for a request with the header `traceparent` (empty where it has none), None for most."""
        found = PARENT.fullmatch(parent) if parent else None
        wanted = int(found[3], 16) & SAMPLED if found else self._rate > 0 and random.random() < self._rate  # noqa: S311  a sample, no secret
        if not wanted or not self._room():
            return None
        trace, caller = (found[1].decode(), found[2].decode()) if found else (f"{random.getrandbits(128):032x}", "")
        return Trace(trace, caller, f"{random.getrandbits(64):016x}")

    def _room(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, MOST_A_SECOND
        self._left -= 1
        return self._left >= 0


def write(trace: Trace, told: dict[str, object]) -> None:
    """Write a trace's line to the process's log."""
    document = {"trace_id": trace.trace, "span_id": trace.span, "parent_id": trace.parent or None, **told}
    log.write(json.dumps(document, separators=(",", ":")))
