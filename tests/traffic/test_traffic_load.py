"""The open-loop load generator, against a server of its own."""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from support.waiting import wait_until
from traffic.load import CATCH_UP_SECONDS, Plan, Totals, due_by, run

RATE = 100.0
BODIES = tuple(b'{"row": %d}' % number for number in range(10))


async def load(seconds: float, stall: float = 0.0) -> tuple[Totals, list[dict[str, Any]], list[bytes]]:
    """Send for some seconds; at the end nothing can be sent for `stall` seconds."""
    received: list[bytes] = []

    async def answer(request: web.Request) -> web.Response:
        received.append(await request.read())
        return web.json_response({}, headers={"x-convoy-revision": "sha256:1"})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    stop, log = asyncio.Event(), io.StringIO()

    def end() -> None:
        time.sleep(stall)
        stop.set()

    asyncio.get_running_loop().call_later(seconds, end)
    totals = await run(Plan(f"http://127.0.0.1:{port}/", RATE, 3, BODIES), log, stop)
    await runner.cleanup()
    return totals, [json.loads(line) for line in log.getvalue().splitlines()], received


@pytest.mark.parametrize(("seconds", "due"), [(-0.1, 0), (0.0, 1), (0.5, 51), (0.509, 51), (0.51, 52)])
def test_what_is_due_comes_from_the_clock(seconds: float, due: int) -> None:
    assert due_by(seconds, RATE) == due


def test_all_that_was_due_is_sent_and_each_record_names_its_body() -> None:
    totals, records, received = asyncio.run(load(0.7))
    assert totals.scheduled == totals.sent == totals.answered == len(records) == len(received)
    assert totals.rate >= RATE
    assert 0 <= totals.p99_lag_ms <= totals.max_lag_ms
    choice = random.Random(3)
    expected = [choice.randrange(len(BODIES)) for _ in records]
    assert [each["body"] for each in sorted(records, key=lambda each: each["id"])] == expected
    assert sorted(received) == sorted(BODIES[each["body"]] for each in records)
    assert {each["revision"] for each in records} == {"sha256:1"}


def test_a_generator_that_fell_behind_has_sent_less_than_was_due() -> None:
    stall = 0.5
    totals, records, _ = asyncio.run(load(0.5, stall))
    assert totals.sent == len(records)
    assert totals.scheduled - totals.sent >= math.floor((stall - CATCH_UP_SECONDS) * RATE / 2)


@contextmanager
def listening(seen: list[str | None]) -> Iterator[str]:
    """Answer every request while the block runs, and keep its x-key."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers["x-key"])
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_a_held_load_sends_the_headers_of_its_stdin_and_ends_with_it(tmp_path: Path) -> None:
    seen: list[str | None] = []
    bodies, log = tmp_path / "bodies", tmp_path / "log"
    bodies.write_text("{}\n")
    with listening(seen) as url:
        command = [sys.executable, "-m", "traffic.load", "--url", url, "--rate", "50", "--bodies", str(bodies), "--log", str(log), "--held"]
        held = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        assert held.stdin is not None
        assert held.stdout is not None
        held.stdin.write(json.dumps({"x-key": "of a drill"}) + "\n")
        held.stdin.flush()
        wait_until(
            lambda: len(seen) > 5 and log.exists() and len(log.read_text().splitlines()) > 3, 60, what="requests are sent and logged"
        )
        assert "of a drill" not in Path(f"/proc/{held.pid}/cmdline").read_text()
        held.stdin.close()
        assert held.wait(60) == 0
        assert json.loads(held.stdout.read())["sent"] == len(seen)
        held.stdout.close()
    assert set(seen) == {"of a drill"}
