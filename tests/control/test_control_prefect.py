"""What Convoy asks of Prefect's server while its database is held by another writer: it then answers 503."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from control.stack import prefect_server
from control.stack.components import Site
from control.stack.prefect_runs import run_now
from control.stack.records import ensure_credentials
from fleet.errors import OperationFailed
from fleet.home import Home
from fleet.settings import Settings
from fleet.stack import Stack

BUSY = (503, {"exception_message": "Service Unavailable"})
RUN = {"id": "r", "name": "calm-otter", "state": {"type": "COMPLETED"}}


@contextmanager
def prefect(*answers: tuple[int, object]) -> Iterator[tuple[int, list[tuple[str, dict[str, object]]]]]:
    """A server that gives these answers in turn, and the last one for ever; gives its port and what it was asked."""
    asked: list[tuple[str, dict[str, object]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, json.loads(body)))
            status, answer = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    home = Home(tmp_path)
    return Site(home, Settings(home=home.root), Stack("00000000", 0), ensure_credentials(home))


def at(site: Site, port: int) -> Site:
    """The site whose Prefect listens at a port."""
    return replace(site, stack=Stack("00000000", port - 1))


def test_a_run_is_asked_for_again_while_prefect_is_busy_and_made_once(site: Site) -> None:
    known = [{"id": "d", "name": "drift", "entrypoint": "flows/drift.py:drift"}]
    with prefect(BUSY, (200, known), BUSY, BUSY, (201, RUN)) as (port, asked):
        assert run_now(at(site, port), "drift", {"model": "toy"}, seconds=5).name == "calm-otter"
    made = [body for path, body in asked if path.endswith("/create_flow_run")]
    assert len(made) == 3
    assert len({body["idempotency_key"] for body in made}) == 1


def test_a_prefect_that_stays_busy_is_named_with_its_words(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "BUSY_SECONDS", 0.5)
    with prefect(BUSY) as (port, asked), pytest.raises(OperationFailed, match=r"answered 503 to POST /automations/filter.*Unavailable"):
        prefect_server.automations(at(site, port))
    assert len(asked) > 1


def test_what_prefect_refuses_is_not_asked_again(site: Site) -> None:
    with prefect((422, {"detail": "no"})) as (port, asked), pytest.raises(OperationFailed, match="answered 422"):
        prefect_server.automations(at(site, port))
    assert len(asked) == 1
