"""A real edge for tests: Envoy, its agent and small upstreams as processes, and an open-loop load."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from fleet.errors import ConvoyError
from fleet.settings import inherited_environment
from support.ports import free_port
from traffic.agent import AgentOptions, agent_command
from traffic.edge_client import Edge
from traffic.edge_state import ModelState
from traffic.edges import shift
from traffic.envoy import EdgePorts
from traffic.gateway import bootstrap, envoy_command
from traffic.table import Backend, RoutingTable, Share

ROOT = Path(__file__).parents[2]
STABLE = "sha256:" + "a" * 64
CANARY = "sha256:" + "b" * 64
REGIONS = ("us", "eu")
TOKEN = "a-token-for-the-tests-only"


def wait_until(condition: Callable[[], object], seconds: float, what: str = "the condition") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} was not met within {seconds} s"
        threading.Event().wait(0.02)


@dataclass
class Process:
    command: list[str]
    log: Path
    running: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> Process:
        with self.log.open("ab") as log:
            environment = inherited_environment() | self.environment
            self.running = subprocess.Popen(self.command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        return self

    def signal(self, number: int) -> None:
        assert self.running is not None
        self.running.send_signal(number)

    def freeze(self) -> None:
        """Stop it with SIGSTOP, and return once the kernel says that it is."""
        self.signal(signal.SIGSTOP)
        assert self.running is not None
        os.waitid(os.P_PID, self.running.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def mend(self) -> None:
        assert self.running is not None
        if self.running.poll() is None:
            self.thaw()
        else:
            self.start()

    def kill(self) -> None:
        if self.running is not None:
            with contextlib.suppress(ProcessLookupError):
                self.running.send_signal(signal.SIGCONT)
            self.running.kill()
            self.running.wait(10)


@dataclass
class RealEdge:
    """Everything of one edge below a folder; processes are started by the test and all killed by `close`."""

    folder: Path
    name: str = "edge-1"
    ports: EdgePorts = field(default_factory=lambda: EdgePorts(free_port(), free_port()))
    agent_port: int = field(default_factory=free_port)
    upstreams: dict[tuple[str, str], Process] = field(default_factory=dict)
    places: dict[tuple[str, str], int] = field(default_factory=dict)
    trusted_proxies: int = 0
    region: str | None = None
    epoch: int = 1

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        token = self.folder / "token"
        token.write_text(TOKEN)
        more = {"trusted_proxies": self.trusted_proxies, "region": self.region}
        options = AgentOptions(self.name, self.folder, self.agent_port, self.ports, token, **more)
        self.agent = Process(agent_command(options), self.folder / "agent.out")
        bootstrap(self.folder, self.name, self.ports, self.trusted_proxies)
        self.envoy = Process(envoy_command(self.folder), self.folder / "envoy.out")
        self.client = Edge(self.name, f"http://127.0.0.1:{self.agent_port}", TOKEN, self.ports.admin)
        self.url = f"http://127.0.0.1:{self.ports.listener}"

    def start(self) -> RealEdge:
        self.envoy.start()
        self.agent.start()
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_until(self._ready, 60, "the edge to be ready")

    def _ready(self) -> bool:
        for process in (self.envoy, self.agent):
            ended = process.running is None or process.running.poll() is not None
            assert not ended, f"{self.name}: {process.log.name} ends with {process.log.read_text(errors='replace')[-800:]}"
        try:
            return self.client.state().envoy_ready
        except ConvoyError:
            return False

    def serve(self, revision: str, *regions: str, **behaviour: float | str) -> None:
        """Start an upstream per region."""
        for region in regions or REGIONS:
            port = self.places.setdefault((revision, region), free_port())
            flags = [part for name, value in behaviour.items() for part in (f"--{name.replace('_', '-')}", str(value))]
            script = str(Path(__file__).with_name("edge_upstream.py"))
            command = [sys.executable, script, "--port", str(port), "--revision", revision, "--region", region, *flags]
            self.upstreams[revision, region] = Process(command, self.folder / "upstreams.out").start()
            wait_until(lambda port=port: _listens(port), 10, f"upstream {region}")

    def seen(self, revision: str, *regions: str) -> Counter[str]:
        """Count the requests that reached a revision's upstreams, by the label with which they came."""
        ports = [self.places[revision, region] for region in regions or REGIONS if (revision, region) in self.places]
        counts = [httpx.get(f"http://127.0.0.1:{port}/seen", trust_env=False).json() for port in ports]
        return sum((Counter(count) for count in counts), Counter())

    def slow(self, revision: str, region: str, milliseconds: float) -> None:
        """Have an upstream take so long from now on."""
        httpx.get(f"http://127.0.0.1:{self.places[revision, region]}/delay/{milliseconds}", trust_env=False).raise_for_status()

    def lose(self, revision: str, *regions: str) -> None:
        """Kill upstreams with SIGKILL."""
        for region in regions or REGIONS:
            self.upstreams[revision, region].kill()

    def backends(self) -> tuple[Backend, ...]:
        return tuple(Backend(revision, region, "127.0.0.1", port) for (revision, region), port in self.places.items())

    def table(self, version: int, canary: int = 0, seconds: float = 60, epoch: int = 0, latency_ms: int = 500) -> RoutingTable:
        shares = (Share(STABLE, 100 - canary), Share(CANARY, canary)) if canary else (Share(STABLE, 100),)
        safe, until = (Share(STABLE, 100),), time.time() + seconds
        return RoutingTable("employment", epoch or self.epoch, version, until, shares, safe, self.backends(), latency_ms)

    def take(self, table: RoutingTable) -> None:
        """Prepare and apply."""
        self.client.prepare(table)
        self.client.apply(table)

    def model(self) -> ModelState:
        state = self.client.state().of("employment")
        assert state is not None
        return state

    def predict(self, body: bytes = b"{}", **headers: str) -> httpx.Response:
        given = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return httpx.post(f"{self.url}/v2/models/employment/infer", content=body, headers=given, timeout=10, trust_env=False)

    def answering(self, requests: int = 60) -> Counter[str]:
        """Count which revisions answer."""
        with httpx.Client(trust_env=False, timeout=10) as client:
            answers = [client.post(f"{self.url}/v2/models/employment/infer", content=b"{}") for _ in range(requests)]
        assert [answer.status_code for answer in answers] == [200] * requests
        return Counter(answer.headers["x-convoy-revision"] for answer in answers)

    def labels(self, headers: list[tuple[str, str]], requests: int = 40) -> dict[str, set[tuple[str, ...]]]:
        """Return the labels with which each revision's upstreams saw requests that carried these headers."""
        seen: dict[str, set[tuple[str, ...]]] = {}
        with httpx.Client(trust_env=False, timeout=10) as client:
            for _ in range(requests):
                answer = client.post(f"{self.url}/v2/models/employment/infer", content=b"{}", headers=headers)
                seen.setdefault(answer.headers["x-convoy-revision"], set()).add(tuple(answer.json()["labels"]))
        return seen

    def files(self) -> tuple[bytes, ...]:
        return tuple((self.folder / "envoy" / name).read_bytes() for name in ("cds.json", "rds.json"))

    def mend(self) -> None:
        """Have running again whatever was killed or stopped."""
        for process in (self.envoy, self.agent, *self.upstreams.values()):
            process.mend()

    def close(self) -> None:
        for process in (self.agent, self.envoy, *self.upstreams.values()):
            process.kill()


@contextlib.contextmanager
def one_edge(folder: Path) -> Iterator[RealEdge]:
    """One edge with a stable revision and a canary in two regions."""
    real = RealEdge(folder)
    try:
        real.start()
        real.serve(STABLE)
        real.serve(CANARY)
        yield real
    finally:
        real.close()


@contextlib.contextmanager
def edges_in(folder: Path, regions: tuple[str, ...]) -> Iterator[tuple[RealEdge, ...]]:
    """An edge in each region over the same upstreams: stable and canary everywhere; no edge has a table yet."""
    several = tuple(RealEdge(folder / region, region, region=region) for region in regions)
    try:
        for edge in several:
            edge.envoy.start()
            edge.agent.start()
        several[0].serve(STABLE, *regions)
        several[0].serve(CANARY, *regions)
        for edge in several:
            edge.places = several[0].places
            edge.wait_ready()
        yield several
    finally:
        for edge in several:
            edge.close()


def envoy_percent(edge: RealEdge, revision: str = CANARY) -> float:
    """Return a revision's share in percent as an edge's Envoy itself has it."""
    url = f"http://127.0.0.1:{edge.ports.admin}/config_dump?resource=dynamic_route_configs"
    routes = httpx.get(url, trust_env=False, timeout=10).json()
    (route,) = (each for each in routes["configs"][0]["route_config"]["virtual_hosts"][0]["routes"] if each["name"] == "employment")
    weights = {share["name"]: share.get("weight", 0) for share in route["route"]["weighted_clusters"]["clusters"]}
    return 100 * sum(weight for name, weight in weights.items() if name.split("/")[1] == revision[7:19]) / sum(weights.values())


def begin_anew(several: tuple[RealEdge, ...]) -> None:
    """Mend every edge and give a tenth of the requests to the canary, under an epoch of its own."""
    epoch = int(time.monotonic() * 1000)
    for edge in several:
        edge.mend()
        edge.epoch = epoch
    for edge in several:
        edge.wait_ready()
    wait_until(lambda: _taken_by(several, several[0].table(1, canary=10)), 30, "a canary at every edge")
    for edge in several:
        wait_until(lambda edge=edge: all(place.healthy for place in edge.model().backends), 20, f"health at {edge.name}")


def _taken_by(several: tuple[RealEdge, ...], table: RoutingTable) -> bool:
    """Shift all edges; one whose servers were only just mended refuses at first."""
    try:
        return shift([edge.client for edge in several], table).complete
    except ConvoyError:
        return False


@dataclass(frozen=True)
class Answer:
    due: float
    status: str
    revision: str
    region: str


class Load:
    """An open loop: requests leave at a constant rate whatever becomes of them; each has a connection of its own."""

    def __init__(self, edge: RealEdge, rate: float = 100, header: str = "x-sent-by: load") -> None:
        self._port = edge.ports.listener
        self._header = header.encode()
        self._rate = rate
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answers: list[Answer] = []
        self.sent = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def go_on_for(self, requests: int) -> None:
        """Wait until so many more requests were answered."""
        until = len(self.answers) + requests
        wait_until(lambda: len(self.answers) >= until, 60, "the load")

    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != "200"]

    async def _run(self) -> None:
        began = time.monotonic()
        asked = []
        while not self._ending.is_set():
            due = began + self.sent / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            asked.append(asyncio.create_task(self._ask(due)))
            self.sent += 1
        await asyncio.gather(*asked)

    async def _ask(self, due: float) -> None:
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.write(
                    b"POST /v2/models/employment/infer HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n"
                    b"content-type: application/json\r\ncontent-length: 2\r\n" + self._header + b"\r\n\r\n{}"
                )
                head = (await reader.read()).decode("latin-1")
                writer.close()
        except (OSError, TimeoutError) as problem:
            self.answers.append(Answer(due, type(problem).__name__, "", ""))
            return
        fields = dict(line.split(": ", 1) for line in head.split("\r\n\r\n")[0].split("\r\n")[1:])
        status = head.split(" ")[1] if head else "nothing"
        self.answers.append(Answer(due, status, fields.get("x-convoy-revision", ""), fields.get("x-convoy-region", "")))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
