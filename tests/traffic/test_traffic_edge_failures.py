"""Parts of a real edge are killed: callers see nothing of it, and what was agreed stays in force."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, Load, RealEdge, wait_until

from fleet.errors import Refused
from support.clock import SetClock
from traffic.edges import shift


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[RealEdge]:
    """An edge whose canary has half of the requests, in two regions."""
    real = RealEdge(tmp_path / "edge")
    try:
        real.start()
        real.serve(STABLE)
        real.serve(CANARY)
        real.take(real.table(1, canary=50))
        yield real
    finally:
        real.close()


def test_a_killed_canary_fails_no_client_and_the_edge_takes_its_safe_shares(edge: RealEdge) -> None:
    with Load(edge) as load:
        load.go_on_for(50)
        edge.lose(CANARY)
        wait_until(lambda: edge.model().percent_of(CANARY) == 0, 10, "the safe shares")
        load.go_on_for(50)
    assert load.failed() == []
    assert edge.model().safe_because == "revision bbbbbbbbbbbb has no healthy host"


def test_the_loss_of_a_region_under_load_fails_no_request(edge: RealEdge) -> None:
    with Load(edge) as load:
        load.go_on_for(50)
        edge.lose(STABLE, "us")
        edge.lose(CANARY, "us")
        wait_until(lambda: not all(backend.healthy for backend in edge.model().backends), 10, "the loss to be seen")
        load.go_on_for(100)
    assert load.failed() == []
    assert edge.model().percent_of(CANARY) == 50
    lost = {(backend.revision, backend.region): backend.healthy for backend in edge.model().backends}
    assert lost == {(STABLE, "us"): False, (CANARY, "us"): False, (STABLE, "eu"): True, (CANARY, "eu"): True}


def test_a_hanging_region_fails_no_request(edge: RealEdge) -> None:
    edge.client.apply(edge.table(2))
    with Load(edge, rate=50) as load:
        load.go_on_for(50)
        edge.upstreams[STABLE, "us"].signal(signal.SIGSTOP)
        load.go_on_for(200)
    assert load.failed() == []


def test_a_hanging_canary_fails_no_request(edge: RealEdge) -> None:
    with Load(edge, rate=50) as load:
        load.go_on_for(50)
        for region in ("us", "eu"):
            edge.upstreams[CANARY, region].signal(signal.SIGSTOP)
        wait_until(lambda: edge.model().percent_of(CANARY) == 0, 20, "the safe shares")
    assert load.failed() == []


def test_a_large_request_is_sent_again_when_its_server_is_gone(edge: RealEdge) -> None:
    edge.lose(STABLE, "us")
    edge.lose(CANARY, "us")
    answers = [edge.predict(body=b"x" * 3_000_000) for _ in range(8)]
    assert [(answer.status_code, answer.json()["received"]) for answer in answers] == [(200, 3_000_000)] * 8


def test_with_no_healthy_backend_at_all_the_answer_is_503_with_a_reason(edge: RealEdge) -> None:
    edge.client.apply(edge.table(2))
    edge.lose(STABLE)
    wait_until(lambda: edge.predict().json().get("reason") == "no_healthy_upstream", 10, "the loss to be seen")
    assert edge.predict().status_code == 503


def test_an_agent_killed_and_started_again_keeps_its_state(edge: RealEdge) -> None:
    before, files = edge.model(), edge.files()
    with Load(edge) as load:
        edge.agent.kill()
        edge.agent.start()
        edge.wait_ready()
    assert load.failed() == []
    assert (edge.model(), edge.files()) == (before, files)
    with pytest.raises(Refused, match="not newer"):
        edge.client.apply(edge.table(1, canary=10))


def test_an_agent_that_starts_after_the_expiry_takes_the_safe_shares(edge: RealEdge) -> None:
    expires_at = time.time() + 1
    edge.client.apply(replace(edge.table(2, canary=50), expires_at=expires_at))
    edge.agent.kill()
    assert edge.answering(60)[CANARY] > 0
    wait_until(lambda: time.time() > expires_at, 5, "the expiry")
    edge.agent.start()
    edge.wait_ready()
    wait_until(lambda: edge.model().percent_of(CANARY) == 0, 5, "the safe shares")
    assert edge.answering(20) == {STABLE: 20}


@pytest.mark.parametrize("killed", [False, True], ids=["living", "killed and started again"])
def test_an_agent_whose_clock_is_set_back_an_hour_still_ends_a_canary_in_time(tmp_path: Path, killed: bool) -> None:
    clock, edge = SetClock(tmp_path), RealEdge(tmp_path / "edge")
    edge.agent.environment = clock.environment
    try:
        edge.start()
        edge.serve(STABLE)
        edge.serve(CANARY)
        edge.take(edge.table(1, canary=50, seconds=4))
        assert edge.model().percent_of(CANARY) == 50
        clock.forward(-3600)
        if killed:
            edge.agent.kill()
            edge.agent.start()
            edge.wait_ready()
        wait_until(lambda: edge.model().on_safe_shares, 10, "the safe shares")
        assert edge.model().safe_because == "the table has expired"
        assert set(edge.answering(20)) == {STABLE}
    finally:
        edge.close()


def test_an_envoy_killed_and_started_again_serves_the_same_table(edge: RealEdge) -> None:
    edge.take(edge.table(2, canary=100))
    edge.envoy.kill()
    wait_until(lambda: not edge.client.state().envoy_ready, 5, "the loss of Envoy")
    edge.envoy.start()
    edge.wait_ready()
    assert edge.model().envoy_version == "1.2"
    assert edge.model().safe_because == ""
    assert edge.answering(20) == {CANARY: 20}


def test_a_way_back_is_accepted_while_envoy_is_dead_and_holds_when_it_returns(edge: RealEdge) -> None:
    edge.envoy.kill()
    shifted = shift([edge.client], edge.table(2))
    assert not shifted.complete
    assert shifted.failures == ()
    edge.envoy.start()
    edge.wait_ready()
    wait_until(lambda: edge.model().confirmed, 5, "the table")
    assert edge.answering(20) == {STABLE: 20}


def test_a_raise_is_refused_while_envoy_is_dead(edge: RealEdge) -> None:
    files = edge.files()
    edge.envoy.kill()
    with pytest.raises(Exception, match="does not answer"):
        shift([edge.client], edge.table(2, canary=60))
    assert edge.files() == files
    assert edge.model().table.version == 1


def test_connections_reset_by_one_region_of_the_canary_are_seen_though_no_client_is(edge: RealEdge) -> None:
    edge.lose(CANARY, "eu")
    edge.serve(CANARY, "eu", reset_every=4)
    wait_until(lambda: all(backend.healthy for backend in edge.model().backends), 10, "health")
    since = int(time.time())
    with Load(edge) as load:
        load.go_on_for(300)
    assert load.failed() == []
    wait_until(lambda: edge.client.attempts("employment", since, 2**33).complete_to > time.time() - 2, 10, "completeness")
    bad = {(count.revision, count.region) for count in edge.client.attempts("employment", since, 2**33).counts if count.bad}
    assert bad == {(CANARY, "eu")}


def test_answers_of_the_application_are_never_retried_and_eject_nobody(edge: RealEdge) -> None:
    for region in ("us", "eu"):
        edge.lose(CANARY, region)
        edge.serve(CANARY, region, status=500)
    wait_until(lambda: all(backend.healthy for backend in edge.model().backends), 10, "health")
    statuses = [edge.predict().status_code for _ in range(40)]
    assert 8 <= statuses.count(500) <= 32
    assert statuses.count(200) + statuses.count(500) == 40


def test_a_server_that_says_it_is_only_starting_fails_no_request_before_its_health_is_seen(edge: RealEdge) -> None:
    for region in ("us", "eu"):
        edge.lose(CANARY, region)
        edge.serve(CANARY, region, status=503, starting=1)
    wait_until(lambda: all(backend.healthy for backend in edge.model().backends), 10, "health")
    assert [edge.predict().status_code for _ in range(40)] == [200] * 40
