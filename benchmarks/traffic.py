"""What the edge costs beside a bare Envoy, and what callers notice while weights, servers and configurations change under it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.form import Row
from benchmarks.traffic_cases import apart, beside, cases
from benchmarks.traffic_cases.scene import edge_in

FULL, QUICK = beside.Plan(rounds=11, seconds=8.0, settle=1.0), beside.Plan(rounds=1, seconds=1.0, settle=0.3)
OUTAGE_SECONDS, QUICK_OUTAGE_SECONDS = 8.0, 1.8
RAISES, QUICK_RAISES = 20, 2


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run does less of each."""
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    try:
        return list(_rows(folder, quick))
    finally:
        shutil.rmtree(folder)


def _rows(folder: Path, quick: bool) -> Iterator[Row]:
    with edge_in(folder / "edge") as edge:
        yield from beside.rows(edge, folder, QUICK if quick else FULL)
        yield from cases.rows(edge, folder, quick, QUICK_OUTAGE_SECONDS if quick else OUTAGE_SECONDS)
    yield from apart.rows(folder / "edges", QUICK_RAISES if quick else RAISES)
