"""Each way in which an attempt can end, made with a real Envoy and counted from what it wrote."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.evidence import AttemptCount
from support.ports import free_port
from traffic.attempts.fold import Fold
from traffic.attempts.folder import Folder, Limits
from traffic.attempts.formats import ACCESS_LOG, ACCESS_LOG_FORMAT, ATTEMPTS_LOG, ENVOY_LOG_FLAGS, METADATA, ROUTER_LOG_FORMAT
from traffic.attempts.terms import Terms

ENVOY = Path(sys.executable).with_name("envoy")
R, STABLE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
FILE_LOG = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
PREVIOUS = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        threading.Event().wait(0.02)


class Server:
    """Answers as its request's path says; `/hang` holds the connection until the server is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._slow = 0
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._over.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection), connection.makefile("rb") as lines, suppress(OSError):
            while line := lines.readline():
                while lines.readline() not in (b"\r\n", b""):
                    pass
                if not self._answer(connection, line.split()[1].decode()):
                    return

    def _answer(self, connection: socket.socket, path: str) -> bool:
        """Answer once; return whether the connection stays open."""
        self._slow += path == "/slow-once"
        if path == "/hang" or (path == "/slow-once" and self._slow == 1):
            self._over.wait(10)
            return False
        if path == "/reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        code = path.removeprefix("/code/") if path.startswith("/code/") else "200"
        length = 100 if path.startswith("/middle") else 2
        if path not in ("/close", "/reset"):
            connection.sendall(
                b"hello\r\n\r\n" if path == "/garbage" else f"HTTP/1.1 {code} X\r\ncontent-length: {length}\r\n\r\nok".encode()
            )
        if path == "/middle-hang":
            self._over.wait(10)
        return path.startswith("/code/") or path == "/slow-once"


def host(port: int, revision: str, region: str = "r1", priority: int = 0) -> dict[str, object]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    metadata = {"filter_metadata": {METADATA: {"region": region, "revision": revision}}}
    return {"priority": priority, "lb_endpoints": [{"endpoint": {"address": address}, "metadata": metadata}]}


def cluster(name: str, hosts: list[dict[str, object]], **more: object) -> dict[str, object]:
    return {
        "name": name,
        "connect_timeout": "0.2s",
        "type": "STATIC",
        "metadata": {"filter_metadata": {METADATA: {"model": "m", "revision": R, "region": "r1"}}},
        "load_assignment": {"cluster_name": name, "endpoints": hosts},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 512}}]},
        **more,
    }


def route(name: str, target: str, per_try: str | None = "0.2s") -> dict[str, object]:
    priority = {
        "name": "envoy.retry_priorities.previous_priorities",
        "typed_config": {"@type": f"type.googleapis.com/{PREVIOUS}", "update_frequency": 1},
    }
    policy: dict[str, object] = {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 2,
        "retry_priority": priority,
        "retry_back_off": {"base_interval": "0.01s"},
    }
    if per_try:
        policy["per_try_timeout"] = per_try
    match = {"prefix": "/", "headers": [{"name": "x-to", "string_match": {"exact": name}}]}
    return {"match": match, "name": name, "route": {"cluster": target, "timeout": "0.8s", "retry_policy": policy}}


def log(path: Path, fields: object) -> dict[str, object]:
    config = {"@type": f"type.googleapis.com/{FILE_LOG}", "path": str(path), "log_format": {"json_format": dict(fields)}}
    return {"name": "file", "typed_config": config}


def bootstrap(folder: Path, admin: int, port: int, server: int, dead: int) -> dict[str, object]:
    none = {"thresholds": [{"max_requests": 0, "max_pending_requests": 0, "max_connections": 0}]}
    clusters = [
        cluster("up", [host(server, R)]),
        cluster("dead", [host(dead, R)]),
        cluster("empty", []),
        cluster("full", [host(server, R)], circuit_breakers=none),
        cluster("failing-over", [host(dead, R), host(server, STABLE, "r2", 1)]),
        cluster("only-stable", [host(server, STABLE, "r2", 1)]),
        cluster("only-stable-full", [host(server, STABLE, "r2", 1)], circuit_breakers={"thresholds": [{"max_requests": 0}]}),
    ]
    routes = [route(str(each["name"]), str(each["name"])) for each in clusters]
    routes += [route("up-no-per-try", "up", None), route("only-stable-no-per-try", "only-stable", None), route("gone", "nowhere")]
    router = {"@type": f"type.googleapis.com/{ROUTER}", "upstream_log": [log(folder / ATTEMPTS_LOG, ROUTER_LOG_FORMAT)]}
    manager = {
        "@type": f"type.googleapis.com/{HTTP}",
        "stat_prefix": "edge",
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "access_log": [log(folder / ACCESS_LOG, ACCESS_LOG_FORMAT)],
        "route_config": {
            "name": "main",
            "validate_clusters": False,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "edge", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, "filter_chains": [chain]}
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"clusters": clusters, "listeners": [listener]},
    }


@dataclass
class Edge:
    folder: Path
    port: int
    admin: int
    asked: int = 0

    def ask(self, to: str, path: str, leave_after: float = 5.0, request_id: str | None = None) -> int | None:
        """Return the answer's code, or None where there was none in time."""
        self.asked += 1
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=leave_after)
        headers = {"x-to": to} | ({"x-request-id": request_id} if request_id else {})
        with closing(client):
            try:
                client.request("GET", path, headers=headers)
                answer = client.getresponse()
                with suppress(http.client.IncompleteRead, TimeoutError):
                    answer.read()
                return answer.status
            except (TimeoutError, http.client.RemoteDisconnected):
                return None

    def reopen(self) -> None:
        self.admin_call("POST", "/reopen_logs")

    def admin_call(self, verb: str, path: str) -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", self.admin, timeout=2)) as client:
            client.request(verb, path)
            return client.getresponse().status

    def ready(self) -> bool:
        try:
            return self.admin_call("GET", "/ready") == 200
        except OSError:
            return False

    def answered(self) -> int:
        """Lines in all of access.log's files."""
        return sum(path.read_bytes().count(b"\n") for path in self.folder.glob(f"{ACCESS_LOG}*"))

    def folded(self, folder: Folder) -> tuple[AttemptCount, ...]:
        """Turn until all that was asked is counted and complete."""
        wait_until(lambda: self.answered() >= self.asked)
        asked_by = int(time.time()) + 1

        def complete() -> bool:
            folder.turn()
            return folder.attempts("m", 0, 2**40).complete_to > asked_by

        wait_until(complete)
        return folder.attempts("m", 0, 2**40).counts


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    server, admin, port = Server(), free_port(), free_port()
    boot = tmp_path / "bootstrap.json"
    boot.write_text(json.dumps(bootstrap(tmp_path, admin, port, server.port, free_port())))
    command = [str(ENVOY), "-c", str(boot), "--concurrency", "1", "--log-level", "error", "--disable-hot-restart", *ENVOY_LOG_FLAGS]
    with (tmp_path / "envoy.err").open("w") as errors:
        envoy = subprocess.Popen(command, stderr=errors)
    try:
        found = Edge(tmp_path, port, admin)
        wait_until(found.ready)
        yield found
    finally:
        envoy.terminate()
        envoy.wait(10)
        server.close()


def folder_of(edge: Edge, slow_ms: int = 1000, limits: Limits | None = None) -> Folder:
    return Folder(edge.folder, "edge-1", lambda model: Terms(slow_ms), False, time.time, edge.reopen, limits or Limits(delay=0.5))


def totals(counts: tuple[AttemptCount, ...]) -> dict[tuple[str, str], tuple[int, int]]:
    """Attempts and bad ones of each revision and region."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for count in counts:
        attempts, bad = found.get((count.revision, count.region), (0, 0))
        found[count.revision, count.region] = attempts + count.attempts, bad + count.bad
    return found


AT_R, AT_STABLE = (R, "r1"), (STABLE, "r2")
CASES: list[tuple[str, str, str, int | None, dict[tuple[str, str], tuple[int, int]]]] = [
    ("an answer is one good attempt", "up", "/code/200", 200, {AT_R: (1, 0)}),
    ("a 500 is bad", "up", "/code/500", 500, {AT_R: (1, 1)}),
    ("a 503 of the service itself is bad and is not tried again", "up", "/code/503", 503, {AT_R: (1, 1)}),
    ("a 404 of the service is the caller's fault", "up", "/code/404", 404, {AT_R: (1, 0)}),
    ("a refused connection is bad at each try", "dead", "/code/200", 503, {AT_R: (3, 3)}),
    ("closed before headers is bad at each try", "up", "/close", 503, {AT_R: (3, 3)}),
    ("reset before headers is bad at each try", "up", "/reset", 503, {AT_R: (3, 3)}),
    ("an answer that is not HTTP is bad", "up", "/garbage", 502, {AT_R: (3, 3)}),
    ("an answer that breaks off is bad, once", "up", "/middle-close", 200, {AT_R: (1, 1)}),
    ("an answer cut off by the route's timeout is bad, once", "up", "/middle-hang", 200, {AT_R: (1, 1)}),
    ("a try that outlasts its time is bad, the next good", "up", "/slow-once", 200, {AT_R: (2, 1)}),
    ("every try that outlasts its time is bad", "up", "/hang", 504, {AT_R: (3, 3)}),
    ("the route's timeout is bad", "up-no-per-try", "/hang", 504, {AT_R: (1, 1)}),
    ("no healthy host is one bad attempt for the chosen cluster", "empty", "/code/200", 503, {AT_R: (1, 1)}),
    ("overflow is one bad attempt for the chosen cluster", "full", "/code/200", 503, {AT_R: (1, 1)}),
    ("overflow on the way to stable is the chosen revision's", "only-stable-full", "/code/200", 503, {AT_R: (1, 1)}),
    ("failing over tells both", "failing-over", "/code/200", 200, {AT_R: (1, 1), AT_STABLE: (1, 0)}),
    ("failing over to a 500 is bad twice", "failing-over", "/code/500", 500, {AT_R: (1, 1), AT_STABLE: (1, 1)}),
    ("stable answering for a revision never touched", "only-stable", "/code/200", 200, {AT_R: (1, 1), AT_STABLE: (1, 0)}),
    ("no cluster is nobody's attempt", "gone", "/code/200", 503, {}),
    ("no route is nobody's attempt", "unknown", "/code/200", 404, {}),
]


def counted(edge: Edge, request_id: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Fold the lines of one request alone."""
    fold, later = Fold(lambda model: Terms(1000), str), int(time.time() * 1000) + 60_000
    name = f'"id":"{request_id}"'.encode()
    attempts, requests = (
        [line for line in (edge.folder / log).read_bytes().splitlines() if name in line] for log in (ATTEMPTS_LOG, ACCESS_LOG)
    )
    fold.read_attempts(attempts, later)
    fold.read_requests(requests, later)
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (_, series), cell in fold.close(later, later).items():
        attempts_before, bad_before = found.get((series.revision, series.region), (0, 0))
        found[series.revision, series.region] = attempts_before + cell.attempts, bad_before + cell.bad
    return found


def test_every_way_an_attempt_can_end_is_counted_for_the_revision_that_caused_it(edge: Edge) -> None:
    folder = folder_of(edge)
    for number, (title, to, path, code, _) in enumerate(CASES):
        assert edge.ask(to, path, request_id=f"case-{number}") == code, title
    together = totals(edge.folded(folder))
    wrong = [
        f"{title}: {found}, not {expected}"
        for number, (title, _, _, _, expected) in enumerate(CASES)
        if (found := counted(edge, f"case-{number}")) != expected
    ]
    assert not wrong, "\n".join(wrong)
    for who in (AT_R, AT_STABLE):
        assert together[who] == tuple(sum(case[4].get(who, (0, 0))[part] for case in CASES) for part in (0, 1))
    assert folder.troubles.unrouted == 1  # the missing cluster; a path without a route is a 404
    assert (folder.malformed, folder.troubles.unjoined) == (0, 0)


def test_a_client_that_left_is_told_from_a_timeout_and_is_no_evidence(edge: Edge) -> None:
    folder = folder_of(edge)
    assert edge.ask("up-no-per-try", "/hang", leave_after=0.2) is None
    assert edge.folded(folder) == ()
    assert sum(row.abandoned for row in folder.seconds("m", 0, 2**40)) == 1


def test_a_client_that_left_in_the_second_try_leaves_the_first_one_bad(edge: Edge) -> None:
    folder = folder_of(edge)
    assert edge.ask("up", "/hang", leave_after=0.3) is None
    assert totals(edge.folded(folder)) == {AT_R: (1, 1)}


def test_a_client_that_left_stable_does_not_excuse_the_revision_never_touched(edge: Edge) -> None:
    folder = folder_of(edge)
    assert edge.ask("only-stable-no-per-try", "/hang", leave_after=0.2) is None
    assert totals(edge.folded(folder)) == {AT_R: (1, 1)}


def test_odd_request_ids_neither_break_a_line_nor_hide_an_error(edge: Edge) -> None:
    folder = folder_of(edge)
    for request_id in ('"}\\{"caller":', "x" * 3000, "same", "same", "\xff\xfe", '{"'):
        edge.ask("up", "/code/500", request_id=request_id)
    assert totals(edge.folded(folder)) == {AT_R: (6, 6)}
    assert folder.malformed == 0


def test_rotation_under_real_traffic_loses_and_doubles_nothing_and_leaves_no_raw_line(edge: Edge) -> None:
    folder = folder_of(edge, limits=Limits(delay=0.5, segment_size=4096))
    for _ in range(20):
        for _ in range(15):
            assert edge.ask("up", "/code/200") == 200
        folder.turn()
    wanted, edge.asked = edge.asked, 0
    wait_until(lambda: folder.turn() is None and sum(count.attempts for count in edge.folded(folder)) >= wanted)
    assert totals(edge.folded(folder)) == {AT_R: (wanted, 0)}
    assert not list(edge.folder.glob("*.log.0*"))
    assert (edge.folder / ACCESS_LOG).stat().st_size < wanted * 300
    assert folder.troubles.truncated == folder.malformed == folder.troubles.late == 0
