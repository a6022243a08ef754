"""Reads the counters that a serving process keeps (bentos/service/usage.py says how the file is laid out)."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
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
