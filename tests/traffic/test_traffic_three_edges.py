"""An edge in each of three regions: each prefers its own, all switch or none, and none keeps another from its safe weights."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, TOKEN, Load, RealEdge, begin_anew, edges_in, envoy_percent, wait_until

from fleet.errors import Refused, Unreachable
from monitoring.share import measured_share
from support.ports import free_port
from traffic import edge_client
from traffic.edge_client import Edge
from traffic.edges import look, make_safe, observe, observe_answering, shift, shift_alone
from traffic.table import RoutingTable
from traffic.witness import ask_envoy

REGIONS = ("us", "eu", "asia")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealEdge, ...]]:
    with edges_in(tmp_path_factory.mktemp("edges"), REGIONS) as several:
        yield several


@pytest.fixture
def edges(standing: tuple[RealEdge, ...]) -> tuple[RealEdge, ...]:
    """Three edges with a tenth of the requests on the canary."""
    begin_anew(standing)
    return standing


@dataclass(frozen=True, slots=True)
class ThenSomethingHappens(Edge):
    """An edge to which something happens just after it has accepted a raise."""

    event: Callable[[], None] = field(default=lambda: None)

    def prepare(self, table: RoutingTable) -> None:
        Edge.prepare(self, table)
        self.event()


def clients(edges: tuple[RealEdge, ...]) -> list[Edge]:
    return [edge.client for edge in edges]


def test_each_edge_is_answered_in_its_own_region_and_elsewhere_once_that_is_lost(edges: tuple[RealEdge, ...]) -> None:
    us, eu, _ = edges
    with Load(us, rate=60) as at_us, Load(eu, rate=60) as at_eu:
        at_us.go_on_for(120)
        at_eu.go_on_for(60)
        before = len(at_us.answers)
        us.lose(STABLE, "us")
        us.lose(CANARY, "us")
        wait_until(lambda: {answer.region for answer in at_us.answers[-20:]} == {"eu", "asia"}, 10, "the others to answer")
    assert {answer.region for answer in at_us.answers[:before]} == {"us"}
    assert {answer.revision for answer in at_us.answers[:before]} == {STABLE, CANARY}
    assert {answer.revision for answer in at_us.answers[-20:]} == {STABLE}
    assert {answer.region for answer in at_eu.answers} == {"eu"}
    assert at_us.failed() == at_eu.failed() == []


def test_a_revision_that_is_not_in_an_edges_region_is_answered_where_it_is(edges: tuple[RealEdge, ...]) -> None:
    us = edges[0]
    elsewhere = tuple(place for place in us.backends() if not (place.revision == CANARY and place.region == "us"))
    assert shift(clients(edges), replace(us.table(2, canary=60), backends=elsewhere)).complete
    wanted = {(STABLE, "us"), (CANARY, "eu"), (CANARY, "asia")}
    with Load(us, rate=80) as load:
        # An earlier test's failures may have us ejected for some seconds
        wait_until(lambda: {(answer.revision, answer.region) for answer in load.answers[-60:]} == wanted, 15, "their regions")
    assert load.failed() == []


def test_all_edges_switch_to_a_raise_within_a_second_of_one_another_and_no_request_fails(edges: tuple[RealEdge, ...]) -> None:
    with ExitStack() as running:
        loads = [running.enter_context(Load(edge, rate=20)) for edge in edges]
        for version, canary in enumerate((25, 50, 75), start=2):
            shifted = shift(clients(edges), edges[0].table(version, canary=canary))
            assert shifted.complete
            assert 0 < shifted.spread < 1
            assert [envoy_percent(edge) for edge in edges] == [canary] * 3
        loads[0].go_on_for(20)
    assert [load.failed() for load in loads] == [[], [], []]


def test_one_edge_that_refuses_a_raise_keeps_all_as_they_are_and_is_named(edges: tuple[RealEdge, ...]) -> None:
    edges[1].client.apply(edges[1].table(7, canary=10))
    with pytest.raises(Refused, match=r"edge 'eu'.*not newer"):
        shift(clients(edges), edges[0].table(2, canary=50))
    assert [envoy_percent(edge) for edge in edges] == [10, 10, 10]


@pytest.mark.parametrize("gone", ["dead", "hung"])
def test_one_edge_that_cannot_be_asked_keeps_all_from_a_raise_and_is_named(edges: tuple[RealEdge, ...], gone: str) -> None:
    edges[2].agent.kill() if gone == "dead" else edges[2].agent.freeze()
    with pytest.raises(Unreachable, match="edge 'asia'"):
        shift(clients(edges), edges[0].table(2, canary=50))
    assert [envoy_percent(edge) for edge in edges] == [10, 10, 10]


def test_an_agent_that_hangs_between_its_word_and_the_switch_does_not_raise_when_it_wakes(
    edges: tuple[RealEdge, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_client, "APPLY_SECONDS", 2.0)
    monkeypatch.setattr(edge_client, "SAFE_SECONDS", 1.0)
    hanging = edges[2]
    frozen = ThenSomethingHappens(hanging.client.name, hanging.client.url, TOKEN, event=hanging.agent.freeze)
    shifted = shift([edges[0].client, edges[1].client, frozen], edges[0].table(2, canary=50))
    assert [failure.edge for failure in shifted.failures] == ["asia"]
    assert [envoy_percent(edge) for edge in edges] == [50, 50, 10]
    hanging.agent.thaw()
    wait_until(lambda: hanging.model().on_safe_shares, 10, "the safe shares")
    assert hanging.model().percent_of(CANARY) == 0
    with pytest.raises(Refused):
        hanging.client.apply(edges[0].table(2, canary=50))


@pytest.fixture
def silent() -> Iterator[Edge]:
    """An edge beyond a line that takes everything and brings nothing back."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        line.listen()
        yield Edge("asia", f"http://127.0.0.1:{line.getsockname()[1]}", TOKEN)


@pytest.mark.parametrize("gone", ["dead", "hung", "unreachable"])
def test_no_edge_delays_the_safe_weights_of_the_others(edges: tuple[RealEdge, ...], silent: Edge, gone: str) -> None:
    asia = edges[2]
    if gone == "dead":
        asia.agent.kill()
        asia.envoy.kill()
    if gone == "hung":
        asia.agent.freeze()
        asia.envoy.freeze()
    there = [edges[0].client, edges[1].client, silent if gone == "unreachable" else asia.client]
    with Load(edges[0], rate=40) as load:
        load.go_on_for(20)
        came = threading.Thread(target=lambda: make_safe(there, "employment", edges[0].epoch))
        began = time.monotonic()
        came.start()
        wait_until(lambda: [envoy_percent(edge) for edge in edges[:2]] == [0, 0], 5, "the safe weights")
        taken = time.monotonic() - began
        load.go_on_for(20)
        came.join()
    assert taken < 1
    assert load.failed() == []
    assert {answer.revision for answer in load.answers[-20:]} == {STABLE}


def test_what_is_safe_reaches_the_edges_that_answer_though_one_is_dead(edges: tuple[RealEdge, ...]) -> None:
    edges[2].agent.kill()
    elsewhere = replace(edges[0].table(2), backends=tuple(place for place in edges[0].backends() if place.revision == STABLE))
    shifted = shift_alone(clients(edges), elsewhere)
    assert [failure.edge for failure in shifted.failures] == ["asia"]
    assert [envoy_percent(edge) for edge in edges[:2]] == [0, 0]
    assert [state.of("employment").table.order for state in shifted.states] == [(edges[0].epoch, 2)] * 2


def test_safe_weights_under_a_later_epoch_keep_the_earlier_one_out(edges: tuple[RealEdge, ...]) -> None:
    prepared = edges[0].table(2, canary=50)
    for edge in edges:
        edge.client.prepare(prepared)
    later = edges[0].epoch + 1
    assert make_safe(clients(edges), "employment", later).complete
    for edge in edges:
        for late in (prepared, edge.table(3, canary=5), edge.table(4)):
            with pytest.raises(Refused, match="not newer"):
                edge.client.apply(late)
        edge.agent.kill()
        edge.agent.start()
    for edge in edges:
        edge.wait_ready()
        with pytest.raises(Refused, match="not newer"):
            edge.client.apply(edge.table(5, canary=0))
    assert shift(clients(edges), edges[0].table(1, canary=10, epoch=later)).complete


def test_an_edge_without_a_table_has_nothing_to_leave(tmp_path: Path) -> None:
    edge = RealEdge(tmp_path / "edge")
    try:
        edge.start()
        found = make_safe([edge.client], "employment", 3)
        assert found.failures == ()
        assert found.states[0].of("employment") is None
    finally:
        edge.close()


@pytest.mark.long
def test_shares_are_measured_over_all_edges_whatever_each_of_them_carries(edges: tuple[RealEdge, ...]) -> None:
    assert shift(clients(edges), edges[0].table(2, canary=40)).complete
    since = int(time.time()) + 1
    with ExitStack() as running:
        loads = [running.enter_context(Load(edge, rate)) for edge, rate in zip(edges, (10, 40, 80), strict=True)]
        loads[2].go_on_for(480)
    until = int(time.time()) + 1
    wait_until(lambda: observe(clients(edges), "employment", since).complete_to >= until, 10, "all seconds")
    attempts = observe(clients(edges), "employment", since)
    found = measured_share(attempts, CANARY, since, 40)
    assert found.real
    assert found.measured == pytest.approx(0.4, abs=0.1)
    by_edge = Counter({edge.name: 0 for edge in edges})
    for count in attempts.counts:
        assert count.region == count.edge
        by_edge[count.edge] += count.attempts
    assert found.attempts == sum(by_edge.values())
    assert by_edge["us"] < by_edge["eu"] < by_edge["asia"]
    # One edge that gives another share than was asked for shows in the pooled one
    edges[2].client.take_safe_shares("employment", edges[2].epoch)
    since = int(time.time()) + 1
    with Load(edges[2], rate=100) as load:
        load.go_on_for(200)
    wait_until(lambda: observe(clients(edges), "employment", since).complete_to > since + 1, 10, "all seconds")
    assert not measured_share(observe(clients(edges), "employment", since), CANARY, since, 40).real


def test_what_the_living_edges_counted_can_be_read_though_one_is_dead(edges: tuple[RealEdge, ...]) -> None:
    since = int(time.time())
    edges[0].answering(20)
    edges[2].agent.kill()
    wait_until(lambda: observe_answering(clients(edges), "employment", since).attempts.total() == 20, 10, "the counts")
    assert [failure.edge for failure in observe_answering(clients(edges), "employment", since).failures] == ["asia"]
    with pytest.raises(Unreachable, match="edge 'asia'"):
        observe(clients(edges), "employment", since)


def test_an_envoy_bears_witness_when_its_agent_does_not(edges: tuple[RealEdge, ...]) -> None:
    us, eu, asia = edges
    us.agent.kill()
    assert ask_envoy(us.client, "employment", CANARY).percent == 10
    assert ask_envoy(us.client, "unheard-of", CANARY).percent == 0
    eu.envoy.kill()
    assert ask_envoy(eu.client, "employment", CANARY) == ask_envoy(Edge("x", "", "", free_port()), "employment", CANARY)
    assert ask_envoy(eu.client, "employment", CANARY).how == "its Envoy is dead"
    asia.envoy.freeze()
    assert ask_envoy(asia.client, "employment", CANARY).percent is None
    asia.envoy.signal(signal.SIGCONT)
    assert ask_envoy(Edge("far", "http://far", ""), "employment", CANARY).percent is None
    assert [failure.edge for failure in look(clients(edges)).failures] == ["us"]
