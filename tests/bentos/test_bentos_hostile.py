"""Requests that nobody should send: no body ends in a 5xx, nothing hangs, and who is slow waits alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import httpx
import pytest
from bentos_serving import Service, serving, wait_until
from hostile_bodies import DOORS, Hostile, damaged, of_binary, of_documents, of_lines, row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.ports import free_port

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance,"
    "unsupported_method,allow_header_conformance,negative_data_rejection"
)
BRIEF = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def service(echo_bento: Path, grpc_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log", grpc_port=str(grpc_port), body_bytes="200000") as service:
        yield service
        assert "Traceback" not in service.text()


def asked(service: Service, request: Hostile) -> httpx.Response:
    headers = [(name, value.encode()) for name, value in request.headers]
    return service.client.post(request.path, content=request.body, headers=headers)


@given(request=of_documents())
@BRIEF
def test_no_document_ends_in_a_5xx(request: Hostile, service: Service) -> None:
    answer = asked(service, request)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


@given(request=damaged())
@BRIEF
def test_no_damaged_request_ends_in_a_5xx(request: Hostile, service: Service) -> None:
    answer = asked(service, request)

    assert answer.status_code in (200, 400), answer.text


@given(request=of_lines())
@BRIEF
def test_no_csv_ends_in_a_5xx(request: Hostile, service: Service) -> None:
    answer = asked(service, request)

    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("body", [b"1\x1c", b"\x1f00", b"1\xc2\xa0", b"\xe2\x80\xa81"])
def test_a_number_beside_a_blank_that_is_none_is_the_callers_mistake(body: bytes, service: Service) -> None:
    answer = asked(service, Hostile("/invocations", body, (("content-type", "text/csv"),)))

    assert answer.status_code == 400
    assert "column 'age'" in answer.json()["error"]


@given(request=of_binary())
@BRIEF
def test_no_binary_tensors_end_in_a_5xx(request: Hostile, service: Service) -> None:
    answer = asked(service, request)

    assert answer.status_code in (200, 400), answer.text


@given(body=st.binary(max_size=100))
@BRIEF
def test_no_message_ends_in_an_internal_error_over_grpc(body: bytes, service: Service, grpc_port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(body, timeout=20)

    assert refused.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


HEADERS = [
    ("accept", "image/png"),
    ("accept", ";;;,q=x,*/*;q=nan"),
    ("content-type", "\xff/\xff; charset=\xff"),
    ("x-request-id", "\xff" * 200),
]
HEADERS += [
    ("x-amzn-sagemaker-session-id", "NEW_SESSION"),
    ("x-amzn-sagemaker-enable-explanations", "`true`"),
    ("content-type", "application/json;charset=utf-16"),
]
HEADERS += [("content-encoding", "gzip"), ("expect", "nothing"), ("x-ms-client-request-id", "\xff")]


@pytest.mark.parametrize(("name", "value"), HEADERS)
@pytest.mark.parametrize("path", DOORS)
def test_no_header_ends_in_a_5xx(path: str, name: str, value: str, service: Service) -> None:
    answer = service.client.post(
        path, content=b"{}", headers=[("content-type", "application/json")] * (name != "content-type") + [(name, value.encode("latin-1"))]
    )

    assert answer.status_code in (400, 406, 415)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xff HTTP/1.1",
        b"GET /%FF%00 HTTP/1.1",
        b"CONNECT a:1 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"BREW / HTTP/1.1",
        b"GET /v2/models/%2e%2e/infer HTTP/1.1",
    ],
)
def test_no_request_line_ends_in_a_5xx(line: bytes, service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        client.sendall(line + b"\r\nhost: x\r\n\r\n")
        status = client.makefile("rb").readline()

    assert status.split()[1] in (b"400", b"404", b"405")


def explored(port: int, examples: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask everything that the OpenAPI document allows, and much that it does not; an answer within ten seconds each time."""
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    command += [f"http://127.0.0.1:{port}/openapi.json", "--checks", CHECKS, "--max-examples", str(examples), "--mode", "all"]
    command += ["--request-timeout", "10", "--phases", "examples,coverage,fuzzing", "--seed", "6", "--no-color", "--workers", "1"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)


def test_the_openapi_document_says_what_the_service_answers(service: Service, tmp_path: Path) -> None:
    done = explored(service.port, 3, tmp_path)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_header_or_a_body_that_trickles_holds_up_nobody_else(service: Service) -> None:
    """A hundred connections, half in their headers and half in their bodies, go on a byte at a time while others ask."""
    path = b"POST /invocations HTTP/1.1\r\n"
    head = path + b"host: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
    took = []
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10)) for _ in range(100)]
        for at, client in enumerate(slow):
            client.sendall(head if at % 2 else head + b"\r\n{")
        for _ in range(30):
            for at, client in enumerate(slow):
                client.sendall(b"x" if at % 2 else b" ")
            began = time.perf_counter()
            assert service.infer("echo", *row()).status_code == 200
            took.append(time.perf_counter() - began)

    assert sorted(took)[len(took) // 2] < 0.1


def test_a_body_that_does_not_arrive_in_time_is_408_and_its_connection_ends(echo_bento: Path, tmp_path: Path) -> None:
    with serving(echo_bento, tmp_path / "log", body_seconds="1") as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
            client.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{")
            answer = client.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"x-convoy-region: unplaced\r\n" in answer
        assert b"the body must be there within 1 s" in answer
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{service.port}/ping").status_code == 200, 5, "others are answered")
