"""A region's server with the demo's model: how soon it answers, what it holds, and what callers notice when three of them are hit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.form import Row, measured
from benchmarks.serving_cases import regions
from benchmarks.serving_cases.models import Served, demo
from benchmarks.serving_cases.servers import CONVOY, running
from control.demo.register import quiet as quietly

COLD_SECONDS, MEMORY_MIB = 4.0, 250.0
ROUNDS, QUICK_ROUNDS = 5, 1
WHERE = "a region's server with the demo's model"


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run does less of each."""
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    try:
        with quietly():
            model = demo(folder / "mlflow")
            return [*_started(folder / "started", model, QUICK_ROUNDS if quick else ROUNDS), *regions.rows(folder / "three", model, quick)]
    finally:
        shutil.rmtree(folder)


def _started(folder: Path, model: Served, rounds: int) -> Iterator[Row]:
    """Start it so often; say how long that took, what it holds, and what it has imported.

    A revision's first server on a machine, which is the service gate's, hears from MLflow too; those of the regions know.
    """
    first, cold, memory, strange = [], [], [], set[str]()
    for number in range(rounds):
        for found in (first, cold):
            with running(CONVOY, model, folder / f"{number}-{len(first)}", full=True, PARITY=str(folder / f"{number}.parity")) as server:
                found.append(server.cold)
                memory.append(server.memory_mib())
                strange |= server.loaded()
    yield measured(f"cold start: {WHERE}", "to the first answer", cold, "s", COLD_SECONDS)
    yield measured(f"cold start of a revision's first server: {WHERE}", "to the first answer", first, "s", COLD_SECONDS)
    yield measured(f"memory: {WHERE}", CONVOY.name, memory, "MiB", MEMORY_MIB)
    names = ", ".join(sorted(strange)) or "none"
    yield Row(f"pandas and mlflow in the process: {WHERE}", names, len(strange), "libraries", None, 2 * rounds, 0.0)
