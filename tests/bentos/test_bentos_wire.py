"""What a connection may do: offers, heads without end, bodies held back, callers that leave; and a log that nobody takes."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bentos_serving import Service, environment, serving, started, tensor, wait_until

from bentos.service.heads import HEAD_BYTES
from support.ports import free_port

ROWS = (tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1))
BODY = json.dumps({"inputs": ROWS}).encode()
PATH = b"/v2/models/employment/infer"
OFFER = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
ENDLESS = {
    "a head": b"GET /v2 HTTP/1.1\r\nhost: x\r\nx-long: ",
    "a path": b"GET /v2/",
    "trailers": b"POST %b HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n \r\n0\r\nx: " % PATH,
}


@contextmanager
def connected(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        yield connection


def asking(body: bytes = BODY, more: bytes = b"", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (PATH, more, size, body)


def statuses(connection: socket.socket, answers: int = 1) -> list[int]:
    """The statuses of so many answers, fewer where the connection ends before."""
    read = b""
    while read.count(b"HTTP/1.1 ") < answers and (piece := connection.recv(65536)):
        read += piece
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", read)]


def counted(service: Service, code: str) -> int:
    found = re.search(rf'^convoy_service_requests_total{{.*code="{code}"}} (\d+)$', service.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_an_offer_of_another_protocol_is_passed_over_and_the_request_answered(logistic: Service) -> None:
    """As Java's client makes it with the first request of each connection."""
    with connected(logistic) as connection:
        connection.sendall(asking(more=OFFER))
        assert statuses(connection) == [200]
        connection.sendall(asking(more=OFFER.replace(b"Upgrade,", b"close, Upgrade,")))
        assert statuses(connection, 2) == [200]


def test_the_body_of_a_request_with_an_offer_is_never_read_as_a_request(logistic: Service) -> None:
    within = b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"
    with connected(logistic) as connection:
        connection.sendall(asking(b"", more=OFFER, length=len(within)))
        # once others were answered the head was read, and what follows arrives by itself
        assert [logistic.get("/v2").status_code for _ in range(3)] == [200] * 3
        connection.sendall(within)
        assert statuses(connection) == [400]
        connection.sendall(asking())
        assert statuses(connection) == [200]


@pytest.mark.parametrize("case", ENDLESS)
def test_what_has_no_end_is_refused_before_it_takes_memory(case: str, logistic: Service) -> None:
    with connected(logistic) as connection:
        connection.sendall(ENDLESS[case])
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            connection.sendall(b"x" * 1000 * HEAD_BYTES)
    assert logistic.get("/v2/health/live").status_code == 200


def test_a_long_head_and_a_long_body_before_it_are_taken(logistic: Service) -> None:
    padded = b" " * 500_000 + BODY
    with connected(logistic) as connection:
        connection.sendall(asking(padded) + asking(more=b"x-long: %b\r\n" % (b"x" * 50_000)))
        assert statuses(connection, 2) == [200, 200]


def test_a_caller_that_leaves_with_several_requests_under_way_is_no_error(logistic: Service) -> None:
    answered, failed, traces = counted(logistic, "200"), counted(logistic, "500"), logistic.text().count("Traceback")
    connection = socket.create_connection(("127.0.0.1", logistic.port), timeout=20)
    connection.sendall(asking() * 50)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    with connected(logistic) as another:
        another.sendall(asking() * 2)
        assert statuses(another, 2) == [200, 200]
    assert counted(logistic, "200") >= answered + 2
    assert counted(logistic, "500") == failed
    assert logistic.text().count("Traceback") == traces


def test_large_bodies_that_are_held_back_are_bounded_together_and_keep_no_small_one_out(logistic_bento: Path, tmp_path: Path) -> None:
    large = b" " * 400_000
    with serving(logistic_bento, tmp_path / "log", queue_bytes="1000000", body_bytes="1000000") as service:
        holding = [socket.create_connection(("127.0.0.1", service.port), timeout=20) for _ in range(4)]
        for each in holding:
            each.sendall(asking(large, length=len(large) + 1))
        wait_until(lambda: counted(service, "503") == 2, 20, "what is over the bound is refused")

        with connected(service) as another:
            another.sendall(asking())
            assert statuses(another) == [200]
            another.sendall(asking(large + BODY))
            assert statuses(another) == [503]
        for each in holding:
            each.close()
        with connected(service) as another:
            wait_until(lambda: another.sendall(asking(large + BODY)) or statuses(another) == [200], 20, "their room is free again")


def test_answers_go_on_when_nobody_takes_the_log_any_more(logistic_bento: Path, tmp_path: Path) -> None:
    takes, log = os.pipe()
    port = free_port()
    command = [sys.executable, "-m", "convoy_service"]
    process = subprocess.Popen(command, cwd=logistic_bento / "src", env=environment(logistic_bento, port), stdout=log, stderr=log)
    os.close(log)
    with started(["sleep", "60"], tmp_path, {}, port, tmp_path / "log") as service:
        try:
            wait_until(service.ready, 90, "ready")
            os.close(takes)
            traced = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
            assert service.infer("employment", *ROWS, **traced).status_code == 200
        finally:
            process.kill()
            process.wait(20)
