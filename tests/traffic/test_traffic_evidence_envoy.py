"""Callers, scores and pairs as a real Envoy logs them: behind proxies, without a trace for callers, and of mirrored requests."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import orjson
import pytest
from edge_harness import STABLE, Process, RealEdge, wait_until

from fleet.evidence import AttemptCount, Attempts
from traffic.attempts.folder import Folder, Limits
from traffic.attempts.formats import ANSWER_HEADER, ATTEMPTS_LOG, ENVOY_LOG_FLAGS
from traffic.attempts.terms import Terms
from traffic.clusters import clusters_of
from traffic.envoy import whole_file
from traffic.rules import Shadow

ENVOY = Path(sys.executable).with_name("envoy")
SHADOW = "sha256:" + "c" * 64
MARK = "0123456789abcdef"
LOOPBACK = "127.0.0.1"


def attempts_of(edge: RealEdge, wanted: int) -> tuple[AttemptCount, ...]:
    """Wait until the agent has counted so many attempts."""
    since = int(time.time()) - 60
    wait_until(lambda: edge.client.attempts("employment", since, int(time.time()) + 1).total() >= wanted, 10, f"{wanted} attempts")
    return edge.client.attempts("employment", since, int(time.time()) + 1).counts


@contextmanager
def real(folder: Path, trusted_proxies: int = 0, **behaviour: float | str) -> Iterator[RealEdge]:
    edge = RealEdge(folder, trusted_proxies=trusted_proxies)
    try:
        edge.serve(STABLE, "us", **behaviour)
        edge.start()
        edge.take(replace(edge.table(1), score_range=(0.0, 2.0), score_tolerance=0.05))
        yield edge
    finally:
        edge.close()


def test_what_a_server_tells_of_its_answers_reaches_the_counts_and_no_caller(tmp_path: Path) -> None:
    with real(tmp_path, answer=f"0.500000;{MARK}") as edge:
        answers = [edge.predict() for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 8
        assert all(answer.headers["x-convoy-revision"] == STABLE for answer in answers)
        assert not any(ANSWER_HEADER in answer.headers for answer in answers)
        counts = attempts_of(edge, 8)
        assert (sum(count.scored for count in counts), sum(count.score_sum for count in counts)) == (8, 8 * 250_000)


FORWARDED: dict[int, list[tuple[str | None, str]]] = {
    # what the request says it was forwarded for, and who its caller is
    0: [("198.51.100.1", LOOPBACK), ("198.51.100.2", LOOPBACK), (None, LOOPBACK)],
    1: [
        ("198.51.100.1", "198.51.100.1"),
        ("203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("nobody, 198.51.100.1", "198.51.100.1"),
        ("2001:DB8::0:3", "2001:db8::3"),
        ("nobody", LOOPBACK),
        (None, LOOPBACK),
    ],
    2: [("198.51.100.1, 192.0.2.9", "198.51.100.1"), ("198.51.100.1, 192.0.2.8", "198.51.100.1"), ("198.51.100.1", LOOPBACK)],
}


@pytest.mark.parametrize("proxies", FORWARDED)
def test_callers_behind_proxies_are_told_apart_as_far_as_these_are_believed(tmp_path: Path, proxies: int) -> None:
    with real(tmp_path, proxies, status=500) as edge:
        for forwarded, _ in FORWARDED[proxies]:
            claimed = {"x-envoy-external-address": "192.0.2.77"} | ({"x-forwarded-for": forwarded} if forwarded else {})
            assert edge.predict(**claimed).status_code == 500
        expected = [caller for _, caller in FORWARDED[proxies]]
        for log in (edge.folder / "access.log", edge.folder / ATTEMPTS_LOG):
            wait_until(lambda log=log: log.read_bytes().count(b"\n") == len(expected), 10, "the lines")
            assert [orjson.loads(line)["caller"] for line in log.read_bytes().splitlines()] == expected
        counts = attempts_of(edge, len(expected))
        assert sum(count.bad for count in counts) == len(expected)
        # The requests may fall into two seconds
        bursts = [count.bad_bursts or 0 for count in counts]
        assert max(bursts) <= len(set(expected)) <= sum(bursts)
        assert sum(bursts) < len(expected)


class Mirroring:
    """An Envoy with an edge's own configuration, of a table that copies every request for a shadow."""

    def __init__(self, upstreams: RealEdge) -> None:
        self.folder, self.ports = upstreams.folder, upstreams.ports
        live = replace(upstreams.table(1), shadow=Shadow(SHADOW, 100))
        boot = self.folder / "mirroring.json"
        boot.write_bytes(whole_file(self.ports, self.folder, clusters_of(live), [live]))
        command = [str(ENVOY), "-c", str(boot), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart", *ENVOY_LOG_FLAGS]
        self.envoy = Process(command, self.folder / "mirroring.out").start()
        self.asked = 0
        terms = Terms(live.latency_ms, (0.0, 2.0), 0.05)
        self.counting = Folder(self.folder, "edge-1", lambda model: terms, True, time.time, lambda: None, Limits(delay=0.5))
        self.url = f"http://127.0.0.1:{self.ports.listener}/v2/models/employment/infer"
        wait_until(self._serves, 10, "a healthy stable")

    def _serves(self) -> bool:
        try:
            with httpx.Client(trust_env=False) as client:
                clusters = client.get(f"http://127.0.0.1:{self.ports.admin}/clusters").text
        except httpx.TransportError:
            return False
        healthy = [line for line in clusters.splitlines() if line.endswith("health_flags::healthy")]
        return any("aaaaaaaaaaaa" in line for line in healthy)

    def ask(self, body: bytes = b"", **headers: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=10) as client:
            return client.post(self.url, content=body, headers=headers)

    def attempts(self, lines: int) -> Attempts:
        """Return everything once so many lines were logged, and are counted and complete."""
        log = self.folder / ATTEMPTS_LOG
        wait_until(lambda: log.read_bytes().count(b"\n") >= lines, 10, f"{lines} attempts")
        by = int(time.time()) + 1

        def complete() -> bool:
            self.counting.turn()
            return self.counting.attempts("employment", 0, 2**40).complete_to > by

        wait_until(complete, 10, "complete seconds")
        return self.counting.attempts("employment", 0, 2**40)

    def close(self) -> None:
        self.envoy.kill()
        self.counting.close()


@pytest.fixture
def mirroring(tmp_path: Path) -> Iterator[Callable[..., Mirroring]]:
    """Start stable, a shadow that behaves as told (None: that is lost), and the edge in front of them."""
    upstreams, started = RealEdge(tmp_path), list[Mirroring]()

    def start(stable: dict[str, float | str], shadow: dict[str, float | str] | None) -> Mirroring:
        upstreams.serve(STABLE, "us", **stable)
        upstreams.serve(SHADOW, "us", **shadow or {})
        if shadow is None:
            upstreams.lose(SHADOW, "us")
        started.append(Mirroring(upstreams))
        return started[0]

    yield start
    for each in started:
        each.close()
    upstreams.close()


def test_mirrored_answers_are_paired_whatever_ids_and_keys_callers_send(mirroring: Callable[..., Mirroring]) -> None:
    edge = mirroring({"answer": "body"}, {"answer": "body"})
    for number in range(20):
        # One id for all of them, and answers that differ: whatever is joined wrongly disagrees
        answer = edge.ask(f"{number / 10:.6f};{number:016x}".encode(), **{"x-request-id": "the same", "x-convoy-pair": "forged"})
        assert answer.status_code == 200
        assert ANSWER_HEADER not in answer.headers
        assert "forged" not in answer.text
    found = edge.attempts(40)
    assert (sum(pair.pairs for pair in found.pairs), sum(pair.disagreed for pair in found.pairs)) == (20, 0)
    assert {(pair.revision, pair.region, pair.edge) for pair in found.pairs} == {(SHADOW, "us", "edge-1")}
    scored = {traffic: sum(count.scored for count in found.counts if count.traffic == traffic) for traffic in ("live", "shadow")}
    assert scored == {"live": 20, "shadow": 20}


def test_a_shadow_that_answers_otherwise_disagrees_by_the_distance_of_the_scores(mirroring: Callable[..., Mirroring]) -> None:
    edge = mirroring({"answer": f"1.000000;{MARK}"}, {"answer": f"0.500000;{MARK[::-1]}", "delay_ms": 300})
    for _ in range(3):
        assert edge.ask().elapsed.total_seconds() < 0.25
    found = edge.attempts(6)
    assert [sum(values) for values in zip(*((pair.pairs, pair.disagreed, pair.distance_sum) for pair in found.pairs), strict=True)] == [
        3,
        3,
        750_000,
    ]


def test_a_shadow_that_fails_is_bad_as_a_shadow_with_the_callers_bursts_and_no_caller_notices(mirroring: Callable[..., Mirroring]) -> None:
    edge = mirroring({"answer": f"1.000000;{MARK}"}, {"status": 500, "answer": f"1.000000;{MARK}"})
    assert [edge.ask().status_code for _ in range(6)] == [200] * 6
    found = edge.attempts(12)
    assert found.pairs == ()
    beside = [count for count in found.counts if count.traffic == "shadow"]
    assert {count.revision for count in beside} == {SHADOW}
    assert (sum(count.attempts for count in beside), sum(count.bad for count in beside)) == (6, 6)
    assert [count.bad_bursts for count in beside] == [1] * len(beside)
    assert all(count.bad == 0 for count in found.counts if count.traffic == "live")


def test_a_shadow_that_is_gone_never_answers_and_no_caller_notices(mirroring: Callable[..., Mirroring]) -> None:
    edge = mirroring({"answer": f"1.000000;{MARK}"}, None)
    assert [edge.ask().status_code for _ in range(5)] == [200] * 5
    found = edge.attempts(5)
    assert found.pairs == ()
    assert sum(count.attempts for count in found.counts if count.traffic == "live") == 5


def test_a_caller_who_leaves_takes_nothing_from_the_shadow(mirroring: Callable[..., Mirroring]) -> None:
    edge = mirroring({"delay_ms": 400, "answer": f"1.000000;{MARK}"}, {"delay_ms": 600, "answer": f"1.000000;{MARK}"})
    caller = http.client.HTTPConnection("127.0.0.1", edge.ports.listener, timeout=0.15)
    caller.request("POST", "/v2/models/employment/infer", body=b"{}")
    with pytest.raises(TimeoutError):
        caller.getresponse()
    caller.close()
    found = edge.attempts(2)
    assert [(count.traffic, count.attempts, count.bad) for count in found.counts] == [("shadow", 1, 0)]
    assert found.pairs == ()
