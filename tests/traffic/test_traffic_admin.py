"""What an Envoy's admin interface answers while it is not quite there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fleet.errors import OperationFailed, Unreachable
from traffic.admin import EnvoyAdmin


@contextmanager
def answering(status: int) -> Iterator[EnvoyAdmin]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield EnvoyAdmin(server.server_port)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [404, 503])
def test_an_envoy_that_is_still_starting_can_be_asked_again(status: int) -> None:
    with answering(status) as admin, pytest.raises(Unreachable, match=f"still starting.*{status}"):
        admin.report()


def test_an_envoy_that_refuses_is_a_failure() -> None:
    with answering(400) as admin, pytest.raises(OperationFailed, match="answered /config_dump with 400"):
        admin.report()
