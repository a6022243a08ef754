"""Three edges, each with callers of its own: how far apart they switch to a raise."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness import begin_anew, edges_in

from benchmarks.form import Row
from benchmarks.traffic_cases.callers import RATE, callers
from benchmarks.traffic_cases.figures import APART, NONE_FAILED, OURS, WITHIN, Ran, rows_of
from benchmarks.traffic_cases.scene import BETWEEN_SECONDS, CANARY_PERCENT, url_of
from fleet.errors import ConvoyError
from traffic.edges import shift

if TYPE_CHECKING:
    from edge_harness import RealEdge

CASE = "a raise at three edges"
ASKED = {OURS: NONE_FAILED, APART: WITHIN}
REGIONS = ("us", "eu", "asia")
RAISED_PERCENT = 50


def rows(folder: Path, raises: int) -> list[Row]:
    """Raise and lower the canary at all edges together, so often."""
    spreads: list[float] = []
    broken = ""
    with edges_in(folder, REGIONS) as edges:
        begin_anew(edges)
        with ExitStack() as running:
            rate = round(RATE / len(edges), 1)
            loads = [running.enter_context(callers(url_of(edge), folder / f"{edge.name}.jsonl", rate)) for edge in edges]
            try:
                _raise_and_lower(edges, raises, spreads)
            except (AssertionError, ConvoyError) as problem:
                broken = f"it did not go as it should after {len(spreads)} of {raises} times: {type(problem).__name__}: {problem}"
    sent = tuple(each for load in loads for each in load.sent())
    return rows_of(Ran(CASE, len(spreads), sent, {APART: tuple(spreads)}, broken), ASKED)


def _raise_and_lower(edges: tuple[RealEdge, ...], raises: int, spreads: list[float]) -> None:
    """Add, for each raise, the seconds between the first edge that has switched and the last."""
    versions, clients = count(2), [edge.client for edge in edges]
    for _ in range(raises):
        for percent in (RAISED_PERCENT, CANARY_PERCENT):
            shifted = shift(clients, edges[0].table(next(versions), canary=percent))
            assert shifted.complete, shifted.failures
            if percent == RAISED_PERCENT:
                spreads.append(shifted.spread)
            time.sleep(BETWEEN_SECONDS)
