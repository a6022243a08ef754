"""An edge with a stable revision and a canary in two regions, and what is done to it in every case."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from edge_harness import CANARY, STABLE, RealEdge, begin_anew, wait_until

from traffic.edges import shift
from traffic.table import RoutingTable

MODEL = "employment"
CANARY_PERCENT = 10
HOLDS_SECONDS = 3600.0
BUSY_MS = 50.0
"""How long a server takes for an answer in the failure cases, so that some requests are always under way at each."""
BETWEEN_SECONDS = 0.3


@contextmanager
def edge_in(folder: Path) -> Iterator[RealEdge]:
    """Give a running edge whose servers answer at once; a tenth of the requests is the canary's."""
    edge = RealEdge(folder)
    try:
        edge.start()
        edge.serve(STABLE)
        edge.serve(CANARY)
        begin_anew((edge,))
        yield edge
    finally:
        edge.close()


def url_of(edge: RealEdge) -> str:
    """Return where callers ask an edge for its model."""
    return f"{edge.url}/v2/models/{MODEL}/infer"


def healthy(edge: RealEdge) -> bool:
    """Say whether an edge's Envoy finds every server of its table healthy."""
    return edge.client.state().envoy_ready and all(place.healthy for place in edge.model().backends)


@dataclass(slots=True)
class Scene:
    """The edge of the cases; an outage lasts `outage` seconds."""

    edge: RealEdge
    outage: float
    _versions: Iterator[int] = field(default_factory=count)

    def begin(self) -> None:
        """Have everything running and healthy again, and a tenth of the requests with the canary."""
        begin_anew((self.edge,))
        self._versions = count(2)
        self.put(CANARY_PERCENT)

    def table(self, canary: int, seconds: float = HOLDS_SECONDS) -> RoutingTable:
        """Return the next table."""
        return self.edge.table(next(self._versions), canary=canary, seconds=seconds)

    def put(self, canary: int, seconds: float = HOLDS_SECONDS) -> RoutingTable:
        """Put a canary's share in force."""
        table = self.table(canary, seconds)
        shifted = shift([self.edge.client], table)
        assert shifted.complete, f"{canary} % was not taken: {shifted.failures}"
        return table

    def go_on(self, seconds: float = BETWEEN_SECONDS) -> None:
        """Let the callers go on for a while."""
        time.sleep(max(0.0, seconds))

    def slow_down(self) -> None:
        """Start the servers anew as ones that take a while for an answer, and that drain when they are told to end."""
        for revision in (STABLE, CANARY):
            self.edge.lose(revision)
            self.edge.serve(revision, delay_ms=BUSY_MS, drains=1)
        wait_until(lambda: healthy(self.edge), 30, "health")
