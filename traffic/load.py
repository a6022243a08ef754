"""An open-loop load generator: `python -m traffic.load`.

Requests leave at a constant rate whatever the answers do, and latency counts from the moment when a request should
have gone out (https://github.com/giltene/wrk2), so an outage is not hidden by a client that waits. One JSON line per
request goes to the log as soon as it has ended; the totals go to stdout when SIGTERM ends the load. One that is `--held`
ends with its stdin too, and so never outlives whoever started it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import aiohttp

ANSWER_SECONDS = 20.0
START_SECONDS = 0.2
CATCH_UP_SECONDS = 0.1
"""When the load is stopped, what was due within this time still goes out; what is older was missed."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it should have gone out and did (Unix seconds), what came back and after how many milliseconds.

    `body` is the line of the file of bodies, from 0. `status` 0 means that no answer came; `error` then says why.
    """

    id: str
    body: int
    due: float
    sent: float
    milliseconds: float
    status: int
    revision: str
    region: str
    error: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to send, how many requests a second, and the bodies to choose from.

    `headers` go with every request; one without an answer for `answer_seconds` is given up.
    """

    url: str
    rate: float
    seed: int
    bodies: tuple[bytes, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_seconds: float = ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Totals:
    """What a load came to; lags say by how many milliseconds requests went out later than they were due.

    `scheduled` comes from the clock alone, `sent` counts what went out: they differ when the generator was too slow.
    `rate` is what was reached, in requests a second.
    """

    scheduled: int
    sent: int
    answered: int
    rate: float
    p99_lag_ms: float
    max_lag_ms: float


class Clock:
    """Counts the seconds since the load began, and says them as Unix time; never set back."""

    def __init__(self) -> None:
        self._began = time.monotonic() + START_SECONDS
        self._began_at = time.time() + START_SECONDS

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self._began

    def unix(self, moment: float) -> float:
        """Return a moment as Unix time."""
        return self._began_at + moment


@dataclass(slots=True)
class Sender:
    """Sends requests through one session and keeps count; `lags` has the seconds by which each went out late."""

    session: aiohttp.ClientSession
    plan: Plan
    log: TextIO
    clock: Clock
    answered: int = 0
    lags: list[float] = field(default_factory=list)

    async def one(self, number: int, body: int) -> None:
        """Send request `number` (from 0) and log what came of it."""
        due, sent = number / self.plan.rate, self.clock.now()
        self.lags.append(sent - due)
        name = f"load-{self.plan.seed}-{number + 1:08d}"
        status, revision, region, error = 0, "", "", ""
        headers = {**self.plan.headers, "content-type": "application/json", "x-request-id": name}
        try:
            async with self.session.post(self.plan.url, data=self.plan.bodies[body], headers=headers) as answer:
                await answer.read()
                status = answer.status
                revision, region = answer.headers.get("x-convoy-revision", ""), answer.headers.get("x-convoy-region", "")
        except (aiohttp.ClientError, TimeoutError) as problem:
            error = f"{type(problem).__name__}: {problem}"[:200]
        self.answered += status > 0
        taken = round((self.clock.now() - due) * 1000, 3)
        times = round(self.clock.unix(due), 6), round(self.clock.unix(sent), 6)
        self.log.write(json.dumps(asdict(Sent(name, body, *times, taken, status, revision, region, error))) + "\n")

    def totals(self, stopped: float) -> Totals:
        """Return what it came to by the moment of the stop, in seconds since the load began."""
        lags = sorted(self.lags)
        rank = max(0, math.ceil(0.99 * len(lags)) - 1)
        return Totals(
            scheduled=due_by(stopped, self.plan.rate),
            sent=len(lags),
            answered=self.answered,
            rate=round(len(lags) / stopped, 3) if stopped > 0 else 0.0,
            p99_lag_ms=round(lags[rank] * 1000, 3) if lags else 0.0,
            max_lag_ms=round(lags[-1] * 1000, 3) if lags else 0.0,
        )


def due_by(seconds: float, rate: float) -> int:
    """Return how many requests should have gone out by a moment: one at 0 and one every 1/rate seconds."""
    return math.floor(seconds * rate) + 1 if seconds >= 0 else 0


async def run(plan: Plan, log: TextIO, stop: asyncio.Event) -> Totals:
    """Send until told to stop, wait for what is under way, and return the totals."""
    pending = set[asyncio.Task[None]]()
    choice = random.Random(plan.seed)  # noqa: S311 - which row comes next is no secret
    timeout = aiohttp.ClientTimeout(total=plan.answer_seconds)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        sender, number = Sender(session, plan, log, Clock()), 0

        def launch() -> None:
            task = asyncio.create_task(sender.one(number, choice.randrange(len(plan.bodies))))
            pending.add(task)
            task.add_done_callback(pending.discard)

        while not stop.is_set():
            wait = number / plan.rate - sender.clock.now()
            if wait > 0:
                await _wait(stop, wait)
                continue
            launch()
            number += 1
            await asyncio.sleep(0)
        stopped = sender.clock.now()
        while number < due_by(stopped, plan.rate) and stopped - number / plan.rate <= CATCH_UP_SECONDS:
            launch()
            number += 1
        if pending:
            await asyncio.wait(pending)
    return sender.totals(stopped)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _until_stopped(plan: Plan, log_file: Path, held: bool) -> Totals:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if held:
        threading.Thread(target=_let_go, args=(loop, stop), daemon=True).start()
    # Line by line: a drill reads along
    with log_file.open("w", encoding="utf-8", buffering=1) as log:
        return await run(plan, log, stop)


def _let_go(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop the load when whoever holds the other end of stdin lets go of it, or is dead."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the load has ended already
        loop.call_soon_threadsafe(stop.set)


def _headers() -> dict[str, str]:
    """Return the headers that the first line of stdin holds; read byte by byte, so that nothing behind it is lost."""
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
    return {str(name): str(value) for name, value in json.loads(bytes(line) or b"{}").items()}


def main() -> None:
    """Read the arguments, send until SIGTERM, print the totals as JSON."""
    parser = argparse.ArgumentParser(description="Send requests at a constant rate until SIGTERM.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bodies", type=Path, required=True, help="one request body a line")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--answer-seconds", type=float, default=ANSWER_SECONDS)
    parser.add_argument("--held", action="store_true", help="more headers come as JSON on stdin's first line; its end ends the load")
    given = parser.parse_args()
    bodies = tuple(given.bodies.read_bytes().splitlines())
    plan = Plan(given.url, given.rate, given.seed, bodies, _headers() if given.held else {}, given.answer_seconds)
    totals = asyncio.run(_until_stopped(plan, given.log, given.held))
    # Nobody is there to read them when the parent is dead
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(asdict(totals)), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
