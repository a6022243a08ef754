"""The service as a server of HTTP."""

import socket
import time

import pytest
from bentos_serving import digest_of, tensor, wait_until
from hostile_bodies import row

INFER = "/v2/models/echo/infer"


ANSWERS = {
    "200": ("POST", INFER, {"json": {"inputs": row()}}, 200),
    "400": ("POST", INFER, {"json": {}}, 400),
    "404 path": ("GET", "/nowhere", {}, 404),
    "404 model": ("POST", "/v2/models/other/infer", {"json": {}}, 404),
    "404 elsewhere": ("POST", "/infer", {"json": {}}, 404),
    "405 infer": ("GET", INFER, {}, 405),
    "405 health": ("POST", "/v2/health/ready", {}, 405),
    "413": ("POST", INFER, {"content": b"x" * 20001, "headers": {"content-type": "application/json"}}, 413),
    "415": ("POST", INFER, {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415),
    "500": ("POST", INFER, {"json": {"inputs": row(city=("BYTES", "raise"))}}, 500),
    "live": ("GET", "/v2/health/live", {}, 200),
    "ready": ("GET", "/v2/health/ready", {}, 200),
    "model ready": ("GET", "/v2/models/echo/ready", {}, 200),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_answer_says_revision_region_and_request_id(case, echo, echo_bento):
    method, path, request, status = ANSWERS[case]
    request = {**request, "headers": {**request.get("headers", {}), "x-request-id": "caller-1"}}

    answer = echo.client.request(method, path, **request)

    assert answer.status_code == status
    assert answer.headers["x-convoy-revision"] == digest_of(echo_bento)
    assert answer.headers["x-convoy-region"] == "eu-west"
    assert answer.headers["x-request-id"] == "caller-1"
    assert answer.headers["content-type"] == "application/json"
    assert status == 200 or answer.json()["error"]


@pytest.mark.parametrize("case", ANSWERS)
def test_only_a_prediction_that_succeeded_tells_of_its_answer(case, echo):
    method, path, request, _ = ANSWERS[case]

    answer = echo.client.request(method, path, **request)

    assert ("x-convoy-answer" in answer.headers) == (case == "200")


def test_a_request_without_an_id_gets_one_of_its_own(echo):
    first, second = echo.get("/v2/health/live"), echo.get("/v2/health/live")
    too_long = echo.client.get("/v2/health/live", headers={"x-request-id": "x" * 129})

    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert len(too_long.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    "content_type", ["application/vnd.bentoml+pickle", "application/octet-stream", "application/x-www-form-urlencoded", ""]
)
def test_pickles_and_everything_else_that_is_not_json_is_refused_unread(content_type, echo, tmp_path):
    pickle = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."

    answer = echo.client.post(INFER, content=pickle, headers={"content-type": content_type})

    assert answer.status_code == 415
    assert f"must be application/json, not '{content_type}'" in answer.json()["error"]
    assert not (tmp_path / "ran").exists()


def test_json_may_name_its_charset_but_not_be_compressed(echo):
    named = echo.client.post(INFER, json={"inputs": row()}, headers={"content-type": "application/json; charset=utf-8"})
    compressed = echo.client.post(INFER, json={"inputs": row()}, headers={"content-encoding": "gzip"})

    assert named.status_code == 200
    assert compressed.status_code == 415


def test_a_body_whose_length_is_not_announced_is_limited_too(echo):
    answer = echo.client.post(INFER, content=(b" " * 1000 for _ in range(21)), headers={"content-type": "application/json"})

    assert answer.status_code == 413
    assert "20000 bytes" in answer.json()["error"]


def test_a_body_in_pieces_is_put_together(echo):
    import orjson

    body = orjson.dumps({"inputs": row()})
    answer = echo.client.post(INFER, content=iter([body[:7], body[7:99], body[99:]]), headers={"content-type": "application/json"})

    assert answer.status_code == 200


def head(length: int) -> bytes:
    return f"POST {INFER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n".encode()


def test_a_client_that_leaves_in_the_middle_of_its_request_does_not_break_the_server(echo):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", echo.port)) as client:
            client.sendall(head(1000) + b'{"inputs"')

    assert echo.infer("echo", *row()).status_code == 200
    assert "Traceback" not in echo.text()


def test_a_client_that_leaves_while_its_prediction_runs_does_not_break_the_server(echo, tmp_path):
    import orjson

    body = orjson.dumps({"inputs": row(city=("BYTES", f"wait:{tmp_path}"))})
    with socket.create_connection(("127.0.0.1", echo.port)) as client:
        client.sendall(head(len(body)) + body)
        wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
    (tmp_path / "go").touch()

    assert echo.infer("echo", *row()).status_code == 200
    assert "Traceback" not in echo.text()


def test_readiness_tells_how_long_each_step_of_the_start_took(echo):
    took = echo.get("/v2/health/ready").json()["took_ms"]
    assert list(took) == ["check", "load", "warm_up"]
    assert all(value > 0 for value in took.values())


def test_health_answers_quickly_while_a_slow_prediction_runs_and_waiting_is_bounded(echo, tmp_path):
    import orjson

    body = orjson.dumps({"inputs": row(city=("BYTES", f"wait:{tmp_path}"))})
    waiting = []
    for _ in range(8):
        waiting.append(socket.create_connection(("127.0.0.1", echo.port)))
        waiting[-1].sendall(head(len(body)) + body)
    wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert echo.get("/v2/health/ready").status_code == 200
        took.append(time.perf_counter() - began)
    wait_until(lambda: echo.infer("echo", *row()).status_code == 503, 10, "all slots are taken")
    refused = echo.infer("echo", *row())
    (tmp_path / "go").touch()
    answers = [client.makefile("rb").readline() for client in waiting]
    for client in waiting:
        client.close()

    assert sorted(took)[10] < 0.1
    assert "8 requests are waiting already" in refused.json()["error"]
    assert answers == [b"HTTP/1.1 200 OK\r\n"] * 8
    assert echo.infer("echo", tensor("x", "INT64", 1)).status_code == 400
