"""What running commands took: seconds, CPU and the peak of memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.form import ROOT
from benchmarks.serving_cases.places import quiet_environment

TARGETS = 4
PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a subject took: seconds, CPU seconds a GiB written, and the peak memory in MiB of its largest process."""

    seconds: float
    cpu: float
    peak: float
    again: float = 0.0


def names() -> tuple[str, ...]:
    """Return what the targets are called."""
    return tuple(f"region-{number}" for number in range(TARGETS))


def run_environment() -> dict[str, str]:
    """Return what every subject is started with."""
    return quiet_environment() | {"PYTHONPATH": str(ROOT)}


def timed(lines: list[list[str]], mib: int, folder: Path | None = None, more: Mapping[str, str] | None = None) -> Taken:
    """Run commands one after another and return what they took together, for `mib` to each target."""
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0.0
    for line in lines:
        measured_line = [sys.executable, "-c", PEAK, *line]
        done = subprocess.run(
            measured_line, check=True, capture_output=True, text=True, env=run_environment() | dict(more or {}), cwd=folder
        )
        peak = max(peak, float(done.stderr.split()[-1]) / 1024)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(time.monotonic() - began, cpu / (mib * TARGETS / 1024), peak)
