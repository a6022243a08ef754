"""`make demo` in a fresh clone, with a warm package cache."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.form import ROOT, Row, measured, skipped
from fleet.settings import inherited_environment

ROW, TARGET = "make demo, warm package cache", 8 * 60.0
ROUNDS = 1


def demo(quick: bool) -> list[Row]:
    """Return how long the README's first command takes, set-up included; its rounds are few because each takes minutes."""
    if quick:
        return [skipped(ROW, "a fresh clone", "s", "only in the full run", TARGET)]
    return [measured(ROW, "a fresh clone", [_once() for _ in range(ROUNDS)], "s", TARGET)]


def _once() -> float:
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        clone = Path(folder) / "convoy"
        subprocess.run(("git", "clone", "--quiet", str(ROOT), str(clone)), check=True)
        began = time.monotonic()
        subprocess.run(("make", "demo", "DEMO=--stop"), cwd=clone, env=inherited_environment(), check=True, capture_output=True)
        return time.monotonic() - began
