"""A shift over two real edges: all or none when exposure rises, each alone when it falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, RealEdge, wait_until

from fleet.errors import Refused
from traffic.edge_client import Edge
from traffic.edges import shift
from traffic.table import RoutingTable


@pytest.fixture
def edges(tmp_path: Path) -> Iterator[tuple[RealEdge, RealEdge]]:
    """Two edges over the same upstreams, both at a canary of 10 percent."""
    one, two = RealEdge(tmp_path / "one", "edge-1"), RealEdge(tmp_path / "two", "edge-2")
    try:
        for edge in (one, two):
            edge.envoy.start()
            edge.agent.start()
        one.serve(STABLE)
        one.serve(CANARY)
        two.places = one.places
        for edge in (one, two):
            edge.wait_ready()
        assert shift([one.client, two.client], one.table(1, canary=10)).complete
        yield one, two
    finally:
        one.close()
        two.close()


@dataclass(frozen=True, slots=True)
class ThenSomethingHappens(Edge):
    """An edge to which something happens just after it has accepted a raise."""

    event: Callable[[], None] = field(default=lambda: None)

    def prepare(self, table: RoutingTable) -> None:
        Edge.prepare(self, table)
        self.event()


def test_both_edges_shift_or_none_does(edges: tuple[RealEdge, RealEdge]) -> None:
    one, two = edges
    two.client.apply(replace(two.table(5, canary=10), epoch=2))
    with pytest.raises(Refused, match=r"edge-2.*not newer"):
        shift([one.client, two.client], one.table(2, canary=50))
    assert [edge.model().percent_of(CANARY) for edge in edges] == [10, 10]
    shifted = shift([one.client, two.client], one.table(6, canary=50, epoch=2))
    assert shifted.complete
    assert [state.models[0].percent_of(CANARY) for state in shifted.states] == [50, 50]


def test_an_edge_that_fails_in_between_ends_on_its_safe_shares(edges: tuple[RealEdge, RealEdge]) -> None:
    one, two = edges
    dying = ThenSomethingHappens(two.client.name, two.client.url, two.client.token, event=two.envoy.kill)
    shifted = shift([one.client, dying], one.table(2, canary=50))
    assert [failure.edge for failure in shifted.failures] == ["edge-2"]
    assert not shifted.complete
    two.envoy.start()
    two.wait_ready()
    wait_until(lambda: two.model().confirmed, 10, "the safe shares")
    assert two.model().percent_of(CANARY) == 0
    assert two.model().safe_because == "the controller asked for it"
    assert one.model().percent_of(CANARY) == 50
