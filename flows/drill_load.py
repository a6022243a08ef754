"""A drill's own callers: an open-loop load through the edge that stands nearest, whose log is read along while it lasts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import orjson

from fleet.headers import DRILL_HEADER
from fleet.settings import STACK_MARK, inherited_environment
from flows.drill_checks import DrillPlan, Victim
from flows.drill_requests import requests_for
from flows.house import House
from monitoring.drills import Client, Request
from traffic.clusters import Timeouts
from traffic.drill_key import drill_key

PROJECT = Path(__file__).parents[1]
STOP_SECONDS = 30.0


@dataclass(slots=True)
class DrillLoad:
    """The requests for one model; their process ends with ours, however ours ends."""

    model: str
    process: subprocess.Popen[bytes]
    log: Path
    latency_ms: int
    _requests: list[Request] = field(default_factory=list)
    _read: int = 0

    @classmethod
    def start(cls, house: House, victim: Victim, rate: float, folder: Path) -> Self:
        """Begin to send; raises NotSupported for a model without an input example."""
        model, edge = victim.revision.model, house.edge_near(victim.region)
        bodies, log = folder / f"{model}.requests", folder / f"{model}.client.jsonl"
        bodies.write_bytes(b"".join(body + b"\n" for body in requests_for(house, victim.revision, victim.region)))
        log.touch()
        latency_ms = min(slo.latency_ms for slo in house.model(model).slo.values())
        options = {
            "--url": f"{edge.url}/v2/models/{model}/infer",
            "--rate": str(rate),
            "--bodies": str(bodies),
            "--log": str(log),
            # The edge gives up first, and says so
            "--answer-seconds": str(Timeouts.of(latency_ms).whole / 1000 + 1),
        }
        command = [sys.executable, "-m", "traffic.load", "--held", *(text for pair in options.items() for text in pair)]
        environment = inherited_environment() | {STACK_MARK: house.stack.stack_id}
        # A session of its own: an interrupt at the terminal is for the drill, which goes on measuring while it mends
        process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )
        load = cls(model, process, log, latency_ms)
        assert process.stdin is not None
        process.stdin.write(json.dumps({DRILL_HEADER: drill_key(edge.token(house.credentials.edge_token))}).encode() + b"\n")
        process.stdin.flush()
        return load

    def client(self) -> Client:
        """Return the requests that have ended by now."""
        with self.log.open("rb") as lines:
            lines.seek(self._read)
            whole, newline, _ = lines.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        self._requests += [_request(orjson.loads(line)) for line in whole.splitlines()]
        return Client(self._requests)

    def trouble(self) -> str:
        """Return why nothing is measured any more, empty while the load goes on."""
        status = self.process.poll()
        return "" if status is None else f"the load of {self.model} ended by itself with status {status}"

    def stop(self) -> None:
        """End the load once what is under way has been answered."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def loads(house: House, plan: DrillPlan, victims: Iterable[Victim]) -> Iterator[tuple[DrillLoad, ...]]:
    """Send to every victim's model while the block runs; the callers' logs stay until the region's next drill."""
    folder = house.home.work / f"drill-{plan.region}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    with ExitStack() as running:
        started = []
        for victim in victims:
            started.append(DrillLoad.start(house, victim, plan.rate, folder))
            running.callback(started[-1].stop)
        yield tuple(started)


def _request(sent: dict[str, str | int | float]) -> Request:
    due = float(sent["due"])
    number = int(str(sent["id"]).rpartition("-")[2])
    return Request(number, due, due + float(sent["milliseconds"]) / 1000, int(sent["status"]), str(sent["region"]))
