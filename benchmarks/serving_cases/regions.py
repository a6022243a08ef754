"""The demo's model in three regions behind an edge: how late answers come, and what callers notice when servers are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from edge_harness import RealEdge, wait_until

from benchmarks.envoy_alone import free_ports
from benchmarks.form import Row, measured
from benchmarks.serving_cases.models import NAME, Served
from benchmarks.serving_cases.places import quiet_environment
from benchmarks.serving_cases.servers import PREFIX, V2_PATH
from benchmarks.traffic_cases.beside import quantile
from benchmarks.traffic_cases.blame import kinds, within
from benchmarks.traffic_cases.callers import Callers, callers
from bentos.build import build
from fleet.manifest import Manifest
from traffic.load import Sent
from traffic.table import Backend, RoutingTable, Share

REGIONS = ("europe-west4", "us-east-1", "westeurope")
RATE, KILL_RATE = 200.0, 100.0
P99_MS = 100.0
PROCESSES = 2
HOLDS_SECONDS = 3600.0
Kill = Callable[[str], None]
AFTER_SECONDS = 1.0
"""How long callers go on after a kill before the next thing happens."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds of how many seconds are counted, and how often a process and a whole server are killed."""

    rounds: int
    seconds: float
    processes: int
    servers: int


FULL, QUICK = Plan(5, 6.0, 9, 3), Plan(1, 1.0, 1, 1)


def rows(folder: Path, model: Served, quick: bool) -> Iterator[Row]:
    """Return what callers saw of three regions, with all up and with one being killed."""
    plan = QUICK if quick else FULL
    with _three(folder, model) as three:
        sent, rounds = three.undisturbed(plan)
        late = [quantile([each.milliseconds for each in found], 0.99) for found in rounds]
        yield measured(f"p99 through an edge, three regions up, {RATE:g} requests a second", "demo's model", late, "ms", P99_MS)
        everything = list(sent)
        for what, times, kill in (
            ("one of a region's two processes", plan.processes, three.kill_process),
            ("a region's whole server", plan.servers, three.kill_server),
        ):
            sent = three.killing(times, kill)
            failed = [each for each in sent if each.status != 200]
            everything += sent
            yield Row(
                f"requests that failed: {what} killed with SIGKILL at {KILL_RATE:g} requests a second, {times} times",
                f"of {len(sent)}" + (f": {kinds(failed)}" if failed else ""),
                len(failed),
                "requests",
                None,
                1,
                0.0,
            )
        wrong = sum(each.status == 200 and each.revision != three.manifest.digest for each in everything)
        yield Row("answers that named another digest than the one revision's", f"of {len(everything)}", wrong, "answers", None, 1, 0.0)


class _Three:
    """A revision that three servers of two processes each serve, and an edge before them."""

    def __init__(self, folder: Path, model: Served) -> None:
        self.folder = folder
        self.root = folder / "revision"
        self.manifest: Manifest = build(model.mlflow, NAME, "1", self.root)
        self.root.with_name("revision.manifest").write_bytes(self.manifest.to_bytes())
        self.edge = RealEdge(folder / "edge")
        self.ports = dict(zip(REGIONS, free_ports(len(REGIONS)), strict=True))
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        self.request = model.body("v2")
        self._loads = 0

    def begin(self) -> None:
        """Start everything, and give the edge its table."""
        for region in REGIONS:
            self.serve(region)
        self.edge.start()
        digest = self.manifest.digest
        backends = tuple(Backend(digest, region, "127.0.0.1", port) for region, port in self.ports.items())
        shares = (Share(digest, 100),)
        for region in REGIONS:
            wait_until(lambda region=region: self._ready(region), 60, f"the server of {region}")
        self.edge.take(RoutingTable(NAME, 1, 1, time.time() + HOLDS_SECONDS, shares, shares, backends, 500))
        self.healthy()

    def serve(self, region: str) -> None:
        """Start a region's server."""
        settings = {
            "ROOT": str(self.root),
            "PORT": str(self.ports[region]),
            "REVISION": self.manifest.digest,
            "MODEL": NAME,
            "REGION": region,
            "WORKERS": str(PROCESSES),
            "PARITY": str(self.folder / "parity.json"),
        }
        with (self.folder / f"{region}.log").open("ab") as log:
            self.servers[region] = subprocess.Popen(
                [sys.executable, "-m", "convoy_service"],
                cwd=self.root / "src",
                env=quiet_environment() | {PREFIX + name: value for name, value in settings.items()},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def undisturbed(self, plan: Plan) -> tuple[list[Sent], list[list[Sent]]]:
        """Return every request of a load, and those of each counted round."""
        edges: list[tuple[float, float]] = []
        with self._load(RATE) as load:
            time.sleep(AFTER_SECONDS)
            for _ in range(plan.rounds):
                began = time.time()
                time.sleep(plan.seconds)
                edges.append((began, time.time()))
        sent = load.sent()
        return sent, [within(sent, begin, end) for begin, end in edges]

    def killing(self, times: int, kill: Kill) -> list[Sent]:
        """Return every request of a load during which something is killed so often, in one region after the other."""
        with self._load(KILL_RATE) as load:
            time.sleep(AFTER_SECONDS)
            for number in range(times):
                kill(REGIONS[number % len(REGIONS)])
                time.sleep(AFTER_SECONDS)
                self.healthy()
        return load.sent()

    def kill_process(self, region: str) -> None:
        """Kill one of a region's processes, and wait until another answers in its place."""
        before = self._processes(region)
        before[0].kill()
        wait_until(lambda: len(set(self._processes(region)) - set(before)) == 1, 30, "a new process")

    def kill_server(self, region: str) -> None:
        """Kill a region's processes and whoever keeps them, and start it again once callers have gone without."""
        os.killpg(self.servers[region].pid, signal.SIGKILL)
        self.servers[region].wait(10)
        time.sleep(AFTER_SECONDS)
        self.serve(region)
        wait_until(lambda: self._ready(region), 60, f"the server of {region}")

    def healthy(self) -> None:
        """Wait until the edge finds every region healthy."""
        wait_until(self._healthy, 30, "health")

    def close(self) -> None:
        """End everything."""
        self.edge.close()
        for server in self.servers.values():
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(10)

    @contextmanager
    def _load(self, rate: float) -> Iterator[Callers]:
        self._loads += 1
        with callers(f"{self.edge.url}{V2_PATH}", self.folder / f"load-{self._loads}.jsonl", rate, self.request) as load:
            yield load

    def _processes(self, region: str) -> list[psutil.Process]:
        return [each for each in psutil.Process(self.servers[region].pid).children() if _serves(each)]

    def _ready(self, region: str) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[region]}/v2/health/ready", trust_env=False, timeout=5).is_success
        except httpx.TransportError:
            return False

    def _healthy(self) -> bool:
        state = self.edge.client.state().of(NAME)
        return state is not None and len(state.backends) == len(REGIONS) and all(place.healthy for place in state.backends)


def _serves(process: psutil.Process) -> bool:
    try:
        return "convoy_service" in " ".join(process.cmdline())
    except psutil.Error:
        # it is dead, and nobody has taken note yet
        return False


@contextmanager
def _three(folder: Path, model: Served) -> Iterator[_Three]:
    folder.mkdir(parents=True)
    three = _Three(folder, model)
    try:
        three.begin()
        yield three
    finally:
        three.close()
