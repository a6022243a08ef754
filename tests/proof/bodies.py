"""Hostile bodies: a million of them at the doors of one real server, with no 5xx, no hang and no growth in memory."""

from __future__ import annotations

import argparse
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bentos_serving import Service, packaged, serving
from echo_model import save_echo
from hostile_bodies import MODEL, Hostile, damaged, fine, mutated, of_binary, of_documents, of_lines
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from benchmarks.form import Row
from proof.results import Progress, Report

KINDS: dict[str, SearchStrategy[Hostile]] = {
    "documents of any shape": of_documents(),
    "requests with some bytes changed": damaged(),
    "CSV that is none": of_lines(),
    "binary tensors of other sizes": of_binary(),
}
ALLOWED = frozenset({200, 400, 406, 413, 415})
"""Some of what was damaged is still a request, and is answered."""
FROM_ONE = 100
"""Bodies that are made of each that Hypothesis finds."""
CONNECTIONS = 4
ANSWER_SECONDS = 10.0
WARM = 0.05
"""The part of all bodies after which the memory is first looked at."""
MAY_GROW_MIB = 16.0
KEPT_WRONG = 20


@dataclass(slots=True)
class Tally:
    """What came back: how often each status, the slowest answer in seconds, and what was wrong, with its body."""

    statuses: dict[str, Counter[int]] = field(default_factory=lambda: {kind: Counter() for kind in KINDS})
    slowest: float = 0.0
    wrong: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """How many were answered."""
        return sum(counter.total() for counter in self.statuses.values())

    def take(self, kind: str, request: Hostile, status: int, seconds: float) -> None:
        """Take note of an answer; status 0 is none."""
        with self.lock:
            self.statuses[kind][status] += 1
            self.slowest = max(self.slowest, seconds)
            if status not in ALLOWED and len(self.wrong[kind]) < KEPT_WRONG:
                self.wrong[kind].append(f"{status} for {request.path} {dict(request.headers)} {request.body!r}")


class Wire:
    """One connection that asks again and again; it is opened anew where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._rest = b""

    def ask(self, request: Hostile) -> int:
        """Return the status of an answer, 0 where there is none within its time."""
        head = f"POST {request.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers)
        try:
            return self._asked(head.encode() + b"\r\n" + request.body)
        except OSError:
            self.close()
            return 0

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._rest = None, b""

    def _asked(self, message: bytes) -> int:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_SECONDS)
        self._socket.sendall(message)
        head = self._until(b"\r\n\r\n").lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(self._rest) < length:
            self._read()
        self._rest = self._rest[length:]
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._read()
        head, _, self._rest = self._rest.partition(mark)
        return head + b"\r\n"

    def _read(self) -> None:
        assert self._socket is not None
        more = self._socket.recv(1 << 16)
        if not more:
            raise ConnectionResetError
        self._rest += more


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the hostile bodies."""
    parser.add_argument("--bodies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=6)


def run(given_: argparse.Namespace, report: Report) -> None:
    """Send them all to one server of one process, and look at what it answered, what it holds, and whether it still answers."""
    done = Progress[None](0)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="cv-bodies-") as folder, _served(Path(folder)) as service:
        began, first = time.monotonic(), 0.0
        for part in _parts(given_.bodies):
            for kind, strategy in KINDS.items():
                _send(service, tally, kind, _made(strategy, part // len(KINDS), given_.seed + tally.count))
            first = first or _memory(service)
            done.say(f"{tally.count} bodies, {_memory(service):.1f} MiB, {sum(map(len, tally.wrong.values()))} wrong")
        seconds, last = time.monotonic() - began, _memory(service)
        still = [Wire(service.port).ask(request) for request in fine()]
        traceback = service.text().count("Traceback")
    report.cases = [_case(kind, tally) for kind in KINDS]
    bad = sum(count for counter in tally.statuses.values() for status, count in counter.items() if status not in ALLOWED)
    report.rows = [
        Row("hostile bodies", "one server", tally.count, "bodies"),
        Row("answered with a 5xx, or with nothing", "one server", bad, "bodies", target=0),
        Row("the slowest answer", f"at {CONNECTIONS} connections", round(tally.slowest, 3), "s", target=ANSWER_SECONDS),
        Row("memory after the first part", "one server", round(first, 1), "MiB"),
        Row("memory grew from there", "one server", round(max(0.0, last - first), 1), "MiB", target=MAY_GROW_MIB),
        Row("tracebacks in its log", "one server", traceback, "tracebacks", target=0),
        Row("good requests that it refuses afterwards", "one for each door", sum(status != 200 for status in still), "requests", target=0),
        Row("time", "all of them", round(seconds, 1), "s"),
    ]


def _parts(bodies: int) -> Iterator[int]:
    """Cut the whole into parts, the first of which warms the server up."""
    least = FROM_ONE * len(KINDS)
    part = max(least, int(bodies * WARM))
    while bodies > 0:
        yield max(least, min(part, bodies))
        bodies -= part


def _served(folder: Path) -> Any:
    save_echo(folder / "model")
    revision = packaged(folder / "model", MODEL, folder / "revision")
    return serving(revision, folder / "log", body_bytes="200000")


def _made(strategy: SearchStrategy[Hostile], bodies: int, at: int) -> list[Hostile]:
    """Return so many bodies: what Hypothesis finds, each with others that are made of it."""
    found: list[Hostile] = []
    examples = max(1, -(-bodies // FROM_ONE))
    health = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

    @seed(at)
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=health)
    @given(strategy)
    def find(request: Hostile) -> None:
        found.extend([request, *mutated(request, FROM_ONE - 1, at + len(found))])

    find()
    return found


def _send(service: Service, tally: Tally, kind: str, requests: Sequence[Hostile]) -> None:
    def lane(own: Sequence[Hostile]) -> None:
        wire = Wire(service.port)
        for request in own:
            began = time.perf_counter()
            tally.take(kind, request, wire.ask(request), time.perf_counter() - began)
        wire.close()

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(lane, [requests[at::CONNECTIONS] for at in range(CONNECTIONS)]):
            pass


def _memory(service: Service) -> float:
    """Return what the server and its children hold, in MiB; shared pages are counted once."""
    process = psutil.Process(service.process.pid)
    return float(sum(each.memory_full_info().pss for each in (process, *process.children(recursive=True))) / 2**20)


def _case(kind: str, tally: Tally) -> dict[str, Any]:
    answers = tally.statuses[kind]
    told = ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))
    return {"kind": kind, "bodies": answers.total(), "answers": told, "right": not tally.wrong[kind], "wrong": tally.wrong[kind]}
