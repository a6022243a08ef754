"""Callers as a process of their own: an open-loop load, and what each request came to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_harness import wait_until

from benchmarks.form import ROOT
from fleet.settings import inherited_environment
from traffic.load import Sent, Totals

RATE = 200.0
ENDS_SECONDS = 40.0


@dataclass(slots=True)
class Callers:
    """A load under way; its requests and totals are there once it has ended."""

    log: Path
    totals: Totals | None = None

    def sent(self) -> list[Sent]:
        """Return every request, in the order of the answers."""
        return [Sent(**json.loads(line)) for line in self.log.read_text(encoding="utf-8").splitlines()]


@contextmanager
def callers(url: str, log: Path, rate: float = RATE, body: bytes = b"{}") -> Iterator[Callers]:
    """Ask a model's URL at a constant rate while the block runs, from the first answer on."""
    bodies, found = log.with_suffix(".bodies"), Callers(log)
    bodies.write_bytes(body + b"\n")
    command = [
        *(sys.executable, "-m", "traffic.load", "--held", "--url", url, "--rate", f"{rate:g}"),
        *("--bodies", str(bodies), "--log", str(log)),
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=inherited_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    try:
        process.stdin.write("{}\n")
        process.stdin.flush()
        wait_until(lambda: log.exists() and log.stat().st_size > 0, 30, "the first answer")
        yield found
    finally:
        # The end of its stdin ends it, after what is under way
        printed, _ = process.communicate(timeout=ENDS_SECONDS)
    found.totals = Totals(**json.loads(printed))
