"""A load at a constant rate on a service under trial, and the requests that it is made of."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import orjson

from fleet.errors import NotSupported, OperationFailed
from fleet.settings import STACK_MARK, inherited_environment
from fleet.versions import Revision
from flows.drill_requests import bodies_of, example_of
from flows.house import House
from flows.kept_golden import golden_set
from policies.service import Loaded

PROJECT = Path(__file__).parents[1]
ANSWER_SECONDS = 10.0
END_SECONDS = 30.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Load:
    """Where to send, what, how many a second, for how long, and a folder for files; `stack_id` marks the sender's process."""

    url: str
    bodies: Sequence[bytes]
    rate: float
    seconds: float
    folder: Path
    stack_id: str

    def run(self) -> Loaded:
        """Send and return what came of it; the sender's process ends with ours, however ours ends."""
        bodies, log = self.folder / "bodies", self.folder / "sent.jsonl"
        bodies.write_bytes(b"".join(body + b"\n" for body in self.bodies))
        options = {
            "--url": self.url,
            "--rate": str(self.rate),
            "--bodies": str(bodies),
            "--log": str(log),
            "--answer-seconds": str(ANSWER_SECONDS),
        }
        command = [sys.executable, "-m", "traffic.load", "--held", *(text for pair in options.items() for text in pair)]
        environment = inherited_environment() | {STACK_MARK: self.stack_id}
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            printed = _held(process, log, self.seconds)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return loaded([orjson.loads(line) for line in log.read_bytes().splitlines()], json.loads(printed))


def loaded(sent: Sequence[Mapping[str, Any]], totals: Mapping[str, Any]) -> Loaded:
    """Return what a load came to, from its log and its totals."""
    times = sorted(Decimal(str(each["milliseconds"])) for each in sent)
    bad = [each for each in sent if not 200 <= int(each["status"]) < 300]
    first = f"{bad[0]['status'] or bad[0]['error']}" if bad else ""
    lag = Decimal(str(totals["p99_lag_ms"]))
    return Loaded(int(totals["scheduled"]), len(sent), len(bad), percentile(times, 50), percentile(times, 99), lag, first)


def percentile(ordered: Sequence[Decimal], percent: int) -> Decimal:
    """Return a percentile by the nearest rank; 0 of nothing."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else Decimal(0)


def bodies_for(house: House, revision: Revision, release: str, inputs: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...]:
    """Return requests that the model should answer: its golden rows, else the rows of its input example.

    Raises NotSupported for a model that has neither.
    """
    golden = golden_set(house, release)
    if golden is not None:
        return golden.bodies()
    try:
        return bodies_of(example_of(house.origin, revision), inputs, revision.model)
    except NotSupported as problem:
        why = f"there are no requests to send: the model {problem.reason.partition(', so ')[0]}"
        raise NotSupported(problem.subject, why, f"{problem.remedy} Or declare gates.golden.") from problem


def inputs_of(url: str, model: str) -> list[dict[str, Any]]:
    """Return a model's columns as its service describes them; raises OperationFailed where it does not."""
    try:
        answer = httpx.get(f"{url}/v2/models/{model}", timeout=ANSWER_SECONDS, trust_env=False)
    except httpx.TransportError as problem:
        raise OperationFailed("the service", f"does not describe its model ({type(problem).__name__})") from problem
    if not answer.is_success:
        raise OperationFailed("the service", f"answered {answer.status_code}: {answer.text[:200]}")
    try:
        found = answer.json()["inputs"]
        if not all(
            isinstance(each["name"], str) and isinstance(each["datatype"], str) and isinstance(each["shape"], list) for each in found
        ):
            raise TypeError("of other types")
        return list(found)
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise OperationFailed("the service", "does not describe its model's inputs", "See docs/packaging.md.") from problem


def _held(process: subprocess.Popen[bytes], log: Path, seconds: float) -> bytes:
    """Let a load go on for some seconds from its first request on, then let go of it and return what it prints."""
    # Here alone: it imports an HTTP client that no flow needs
    from traffic.load import START_SECONDS

    assert process.stdin is not None
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    began = time.monotonic()
    # It opens its log when it has been imported, which may take longer than the load itself
    while not log.exists() and process.poll() is None and time.monotonic() - began < END_SECONDS:
        time.sleep(POLL_SECONDS)
    try:
        process.wait(START_SECONDS + seconds)
    except subprocess.TimeoutExpired:
        return _printed(process)
    raise OperationFailed("the load", f"ended by itself with status {process.returncode}")


def _printed(process: subprocess.Popen[bytes]) -> bytes:
    try:
        printed, _ = process.communicate(timeout=END_SECONDS)
    except subprocess.TimeoutExpired as problem:
        raise OperationFailed("the load", f"did not end within {END_SECONDS:g} s") from problem
    return printed
