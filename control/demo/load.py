"""An open-loop load generator: `python -m control.demo.load`.

Requests leave at a constant rate whatever the answers do, and latency counts from the moment when a request should
have gone out (https://github.com/giltene/wrk2), so an outage is not hidden by a client that waits. One JSON line per
request goes to the log; the totals go to stdout when SIGTERM ends the load.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path

import aiohttp

ANSWER_SECONDS = 20.0
START_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it should have gone out and did (Unix seconds), what came back and after how many milliseconds.

    `status` 0 means that no answer came; `error` then says why.
    """

    id: str
    due: float
    sent: float
    milliseconds: float
    status: int
    revision: str
    region: str
    error: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to send, how many requests a second, and the bodies to choose from."""

    url: str
    rate: float
    seed: int
    bodies: tuple[bytes, ...]


@dataclass(slots=True)
class Totals:
    """What a load came to; `scheduled` and `sent` differ only when the generator itself was too slow."""

    scheduled: int = 0
    sent: int = 0
    answered: int = 0


async def run(plan: Plan, log: TextIOWrapper, stop: asyncio.Event) -> Totals:
    """Send until told to stop, wait for what is under way, and return the totals."""
    totals, pending = Totals(), set[asyncio.Task[None]]()
    choice = random.Random(plan.seed)  # noqa: S311 - which row comes next is no secret
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        began, began_at = time.monotonic() + START_SECONDS, time.time() + START_SECONDS
        while not stop.is_set():
            wait = began + totals.scheduled / plan.rate - time.monotonic()
            if wait > 0:
                await _wait(stop, wait)
                continue
            due = began_at + totals.scheduled / plan.rate
            totals.scheduled += 1
            request = _one(session, plan, f"load-{plan.seed}-{totals.scheduled:08d}", due, choice.choice(plan.bodies), log, totals)
            task = asyncio.create_task(request)
            pending.add(task)
            task.add_done_callback(pending.discard)
        if pending:
            await asyncio.wait(pending)
    return totals


async def _one(session: aiohttp.ClientSession, plan: Plan, name: str, due: float, body: bytes, log: TextIOWrapper, totals: Totals) -> None:
    totals.sent += 1
    sent = time.time()
    status, revision, region, error = 0, "", "", ""
    headers = {"content-type": "application/json", "x-request-id": name}
    try:
        async with session.post(plan.url, data=body, headers=headers) as answer:
            await answer.read()
            status = answer.status
            revision, region = answer.headers.get("x-convoy-revision", ""), answer.headers.get("x-convoy-region", "")
    except (aiohttp.ClientError, TimeoutError) as problem:
        error = f"{type(problem).__name__}: {problem}"[:200]
    totals.answered += status > 0
    taken = (time.time() - due) * 1000
    log.write(json.dumps(asdict(Sent(name, round(due, 6), round(sent, 6), round(taken, 3), status, revision, region, error))) + "\n")


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _until_stopped(plan: Plan, log_file: Path) -> Totals:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with log_file.open("w", encoding="utf-8", buffering=1 << 16) as log:
        return await run(plan, log, stop)


def main() -> None:
    """Read the arguments, send until SIGTERM, print the totals as JSON."""
    parser = argparse.ArgumentParser(description="Send requests at a constant rate until SIGTERM.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bodies", type=Path, required=True, help="one request body a line")
    parser.add_argument("--log", type=Path, required=True)
    given = parser.parse_args()
    bodies = tuple(given.bodies.read_bytes().splitlines())
    totals = asyncio.run(_until_stopped(Plan(given.url, given.rate, given.seed, bodies), given.log))
    print(json.dumps(asdict(totals)), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
