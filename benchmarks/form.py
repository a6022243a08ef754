"""The one form of all measurements: rows with a figure, its spread, and whether what was asked for was met."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of its rounds, with the lowest and the highest; `target` only where one was asked for.

    A target is the most that was asked for or, where `least` says so, the least.
    """

    row: str
    subject: str
    figure: float | None
    unit: str
    spread: tuple[float, float] | None = None
    rounds: int = 1
    target: float | None = None
    skipped: str | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the figure keeps its target; None where nothing was asked or nothing was measured."""
        if self.target is None or self.figure is None:
            return None
        return self.figure >= self.target if self.least else self.figure <= self.target

    def as_json(self) -> dict[str, Any]:
        """Return the row as the form has it; keys without a meaning for it are left out."""
        found: dict[str, Any] = {"row": self.row, "subject": self.subject, "figure": self.figure, "unit": self.unit}
        found |= {"spread": None if self.spread is None else list(self.spread), "rounds": self.rounds}
        if self.target is not None:
            found |= {"target": self.target, "met": self.met} | ({"least": True} if self.least else {})
        return found | ({"skipped": self.skipped} if self.skipped else {})


def measured(row: str, subject: str, values: Sequence[float], unit: str, target: float | None = None, *, least: bool = False) -> Row:
    """Return the row of several rounds: their median and their spread."""
    rounded = [round(value, 4) for value in values]
    return Row(row, subject, round(statistics.median(rounded), 4), unit, (min(rounded), max(rounded)), len(rounded), target, least=least)


def skipped(row: str, subject: str, unit: str, why: str, target: float | None = None) -> Row:
    """Return the row of something that could not be run, and why."""
    return Row(row, subject, None, unit, None, 0, target, why)


def interleaved(subjects: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run the subjects in turn, A B A B, once to warm up and `rounds` times counted; returns what was counted."""
    found: dict[str, list[T]] = {name: [] for name in subjects}
    for position in range(rounds + 1):
        for name, act in subjects.items():
            figure = act()
            if position > 0:
                found[name].append(figure)
    return found


def report(benchmark: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the whole document of a run."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "convoy": commit(),
        "machine": machine(),
        "rows": [row.as_json() for row in rows],
    }


def commit() -> str:
    """Return the commit that was measured, marked when the tree differs from it."""
    found = _git("rev-parse", "--short=12", "HEAD")
    return f"{found} with changes" if _git("status", "--porcelain", "--untracked-files=no") else found


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, cores, memory, Python."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
    }


def write(document: Mapping[str, Any]) -> Path:
    """Write a full run where it is committed; returns the file."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{document['benchmark']}.json"
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def _git(*arguments: str) -> str:
    return subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
