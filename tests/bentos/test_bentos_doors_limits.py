"""Time and room are kept alike at every door, over HTTP and gRPC, by one process and by several."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from bentos_serving import Service, digest_of, environment, launched, packaged, serving, started, wait_until
from hostile_bodies import ROW
from test_bentos_direct import fussy
from test_bentos_figures import PARENT, traces
from test_bentos_lifecycle import READY_SECONDS, refuses
from test_bentos_processes import figure, processes

from bentos.service.grpc_messages import message
from support.ports import free_port

CONTENTS = {"INT64": "int64_contents", "INT32": "int_contents", "FP64": "fp64_contents", "FP32": "fp32_contents"}
CONTENTS |= {"BOOL": "bool_contents", "BYTES": "bytes_contents"}
Body = Callable[[dict[str, Any]], Any]
DOORS: dict[str, Body] = {
    "/v2/models/echo/infer": lambda row: {
        "inputs": [{"name": name, "datatype": ROW[name][0], "shape": [1], "data": [value]} for name, value in row.items()]
    },
    "/invocations": lambda row: {"dataframe_records": [row]},
    "/v1/models/echo:predict": lambda row: {"instances": [row]},
    "/score": lambda row: {"input_data": {"columns": list(row), "data": [list(row.values())]}},
}


def one(**changes: Any) -> dict[str, Any]:
    return {name: value for name, (_, value) in ROW.items()} | changes


@dataclass(frozen=True)
class Both:
    """A server that answers over HTTP and gRPC."""

    service: Service
    grpc_port: int

    def post(self, path: str, row: dict[str, Any], **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        where = f"http://127.0.0.1:{self.service.port}{path}"
        return httpx.post(where, json=DOORS[path](row), headers=named, timeout=30, trust_env=False)

    def infer(self, row: dict[str, Any], seconds: float = 20, **metadata: str) -> bytes:
        """Ask over gRPC; raises grpc.RpcError."""
        request = message("ModelInferRequest")(model_name="echo")
        for name, value in row.items():
            datatype = ROW[name][0]
            tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
            getattr(tensor.contents, CONTENTS[datatype]).append(value.encode() if datatype == "BYTES" else value)
        with grpc.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
            answer: bytes = call(request.SerializeToString(), metadata=pairs, timeout=seconds)
            return answer

    def refused(self, row: dict[str, Any], seconds: float = 20, **metadata: str) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            self.infer(row, seconds, **metadata)
        return caught.value


@pytest.fixture(scope="module")
def narrow(echo_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One request may be inside."""
    port = free_port()
    settings = {"slots": "1", "grpc_port": str(port), "deadline_ms": "20000", "revision": digest_of(echo_bento)}
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log", **settings) as service:
        yield Both(service, port)


@pytest.fixture
def busy(narrow: Both, tmp_path: Path) -> Iterator[Both]:
    """The model is at work on a request for as long as the test takes."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(narrow.post, "/invocations", one(city=f"wait:{tmp_path}"))
        wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
        try:
            yield narrow
        finally:
            (tmp_path / "go").touch()
        assert running.result().status_code == 200


@pytest.mark.parametrize("path", DOORS)
def test_a_request_whose_time_is_up_is_504_at_every_door(path: str, narrow: Both, tmp_path: Path) -> None:
    late = narrow.post(path, one(city=f"wait:{tmp_path}"), x_convoy_deadline_ms="50")
    wrong = narrow.post(path, one(), x_convoy_deadline_ms="soon")
    (tmp_path / "go").touch()
    wait_until(lambda: narrow.post(path, one()).status_code == 200, 10, "it is free again")

    assert (late.status_code, late.json()["error"]) == (504, "not answered within 0.050 s")
    assert wrong.status_code == 400
    assert "header x-convoy-deadline-ms: must be whole milliseconds" in wrong.json()["error"]


def test_a_request_whose_time_is_up_is_deadline_exceeded_over_grpc(narrow: Both, tmp_path: Path) -> None:
    """Whether a header says so or gRPC itself, which then stops waiting by itself and is not scored any more."""
    late = narrow.refused(one(city=f"wait:{tmp_path}"), x_convoy_deadline_ms="50")
    own = narrow.refused(one(), seconds=0.05)
    (tmp_path / "go").touch()
    wait_until(lambda: narrow.post("/score", one()).status_code == 200, 10, "it is free again")

    assert (late.code(), late.details()) == (grpc.StatusCode.DEADLINE_EXCEEDED, "not answered within 0.050 s")
    assert own.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    assert narrow.refused(one(), x_convoy_deadline_ms="soon").code() is grpc.StatusCode.INVALID_ARGUMENT


def test_what_cannot_be_taken_is_refused_at_every_door_with_a_time_to_come_back(busy: Both) -> None:
    before = figure(busy.service, 'shed_total{.*why="overloaded"')
    for path in DOORS:
        shed = busy.post(path, one())
        assert (shed.status_code, shed.json()) == (503, {"error": "1 requests are waiting already"}), path
        assert int(shed.headers["retry-after"]) >= 1
        assert "x-convoy-not-ready" not in shed.headers
    over_grpc = busy.refused(one())

    assert (over_grpc.code(), over_grpc.details()) == (grpc.StatusCode.UNAVAILABLE, "1 requests are waiting already")
    assert int(dict(over_grpc.initial_metadata())["retry-after"]) >= 1
    assert int(dict(over_grpc.trailing_metadata())["grpc-retry-pushback-ms"]) >= 1000
    assert figure(busy.service, 'shed_total{.*why="overloaded"') - before == len(DOORS) + 1


def test_every_doors_answers_are_counted_and_traced(narrow: Both) -> None:
    before = figure(narrow.service, 'requests_total{.*code="200"'), figure(narrow.service, 'requests_total{.*code="400"')
    for path in DOORS:
        assert narrow.post(path, one(), traceparent=PARENT, x_request_id="counted").status_code == 200
        assert narrow.post(path, {"age": 1}).status_code == 400
    narrow.infer(one(), traceparent=PARENT, x_request_id="counted")
    assert narrow.refused({"age": 1}).code() is grpc.StatusCode.INVALID_ARGUMENT
    after = figure(narrow.service, 'requests_total{.*code="200"'), figure(narrow.service, 'requests_total{.*code="400"')
    wait_until(lambda: len(counted(narrow.service)) == len(DOORS) + 1, 10, "the lines are written")

    assert (after[0] - before[0], after[1] - before[1]) == (len(DOORS) + 1, len(DOORS) + 1)
    assert {(line["status"], line["rows"], line["batch_requests"]) for line in counted(narrow.service)} == {(200, 1, 1)}
    assert all(line["bytes"] > 0 for line in counted(narrow.service))


def counted(service: Service) -> list[dict[str, Any]]:
    return [line for line in traces(service) if line["request_id"] == "counted"]


@pytest.fixture
def two(echo_bento: Path, tmp_path: Path) -> Iterator[Both]:
    """Two processes behind both ports."""
    port = free_port()
    settings = {"workers": "2", "grpc_port": str(port), "revision": digest_of(echo_bento), "usage": str(tmp_path / "one.counters")}
    with serving(echo_bento, tmp_path / "log", **settings) as service:
        wait_until(lambda: figure(service, "processes_ready") == 2, READY_SECONDS, "both answer")
        yield Both(service, port)


def listening(process: psutil.Process) -> set[int]:
    return {each.laddr.port for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN}


def test_a_process_killed_while_it_answers_over_grpc_takes_nothing_else_with_it(two: Both, tmp_path: Path) -> None:
    outcomes: list[str] = []

    def asked(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            two.infer(one(city=f"wait:{folder}"), seconds=60)
            outcomes.append("answered")
        except grpc.RpcError as problem:
            outcomes.append(problem.code().name)  # type: ignore[attr-defined]

    wait_until(lambda: all(two.grpc_port in listening(each) for each in processes(two.service)), 60, "each process listens")
    threads = [threading.Thread(target=asked, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: figure(two.service, "queue_depth") == 8, 30, "all are inside")
    wait_until(lambda: any(tmp_path.glob("*/begun")), 30, "one is being answered")
    victim = processes(two.service)[0]
    os.kill(victim.pid, signal.SIGKILL)
    for number in range(8):
        (tmp_path / str(number) / "go").touch()
    for thread in threads:
        thread.join(60)
    wait_until(lambda: "ended with status -9" in two.service.text(), 10, "its end is seen")

    assert Counter(outcomes).keys() <= {"answered", "UNAVAILABLE"}
    assert len(outcomes) == 8
    answered = Counter(outcomes)["answered"]
    assert {two.post("/invocations", one()).status_code for _ in range(4)} == {200}
    wait_until(lambda: figure(two.service, "processes_ready") == 2, READY_SECONDS, "both answer again")
    for _ in range(10):
        two.infer(one())
    assert figure(two.service, 'requests_total{.*code="200"') == answered + 14
    assert two.service.stop() == 0


def test_told_to_stop_what_was_begun_over_grpc_and_http_is_finished(two: Both, tmp_path: Path) -> None:
    (tmp_path / "http").mkdir()
    (tmp_path / "grpc").mkdir()
    with ThreadPoolExecutor(2) as pool:
        by_http = pool.submit(two.post, "/score", one(city=f"wait:{tmp_path / 'http'}"))
        by_grpc: Future[bytes] = pool.submit(two.infer, one(city=f"wait:{tmp_path / 'grpc'}"))
        wait_until(lambda: figure(two.service, "queue_depth") == 2, 10, "both are inside")
        os.killpg(two.service.process.pid, signal.SIGTERM)
        wait_until(lambda: refuses(two.service.port) and refuses(two.grpc_port), 10, "no new connection is taken")
        for door in ("http", "grpc"):
            (tmp_path / door / "go").touch()
        answers = by_http.result(20).status_code, message("ModelInferResponse").FromString(by_grpc.result(20)).model_name
        status = two.service.process.wait(20)

    assert (answers, status) == ((200, "echo"), 0)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_for_grpc_that_somebody_else_has_ends_the_start(workers: str, logistic_bento: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        # even where whoever has it would share it
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with launched(logistic_bento, tmp_path / "log", workers=workers, grpc_port=str(port)) as service:
            assert service.process.wait(READY_SECONDS) == 2
            assert f"cannot listen on 127.0.0.1:{port} for gRPC" in service.text()


@pytest.mark.long
def test_the_word_behind_its_command_is_that_of_sagemaker_or_none(logistic_bento: Path, tmp_path: Path) -> None:
    """SageMaker puts `serve` behind a container's command; anything else is a mistake."""
    port, place = free_port(), logistic_bento / "src"
    command = [sys.executable, "-m", "convoy_service", "serve"]
    with started(command, place, environment(logistic_bento, port), port, tmp_path / "log") as service:
        wait_until(service.ready, READY_SECONDS, "ready")
    variables = environment(logistic_bento, port)
    done = subprocess.run([*command[:-1], "train"], cwd=place, env=variables, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (2, "convoy_service: it takes no arguments but `serve`; everything is set by variables\n")


@pytest.mark.long
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_process_begun_again_through_mlflow_has_its_port_for_grpc_again(workers: str, tmp_path: Path) -> None:
    fussy(tmp_path / "model")
    root, port = packaged(tmp_path / "model", "fussy", tmp_path / "bento"), free_port()
    with serving(root, tmp_path / "log", revision=digest_of(root), workers=workers, grpc_port=str(port)) as service:
        request = message("ModelReadyRequest")(name="fussy")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")(request.SerializeToString(), timeout=20)

        assert service.get("/v2/health/ready").json()["path"] == "mlflow pyfunc"
    assert message("ModelReadyResponse").FromString(answer).ready
