"""Every door asks the same model: a thousand rows are answered alike, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import doors_asking as asking
import grpc
import httpx
import numpy as np
import orjson
import pytest
from bentos_serving import Service, digest_of, serving
from hostile_bodies import row

from bentos.service.grpc_messages import message
from support.ports import free_port

PREDICT, HEALTH = "/v1/endpoints/7/deployedModels/9:predict", "/v1/endpoints/7/deployedModels/9"
DOORS = ["/v2/models/echo/infer", "/v2/models/echo/versions/3/infer", "/invocations", "/v1/models/echo:predict", PREDICT, "/score"]
PAGES = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/echo", "/v2/models/echo/ready", "/v2/models/echo/versions/3"]
PAGES += [
    "/metrics",
    "/v2/models/echo/versions/3/ready",
    "/ping",
    "/health",
    "/version",
    "/",
    "/v1/models/echo",
    HEALTH,
    "/openapi.json",
    "/docs",
]


@dataclass(frozen=True)
class Doors:
    service: Service
    grpc_port: int

    @property
    def client(self) -> httpx.Client:
        return self.service.client


@pytest.fixture(scope="module")
def doors(echo_bento: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    port = free_port()
    settings = {"region": "eu-west", "revision": digest_of(echo_bento), "grpc_port": str(port), "body_bytes": "2000000"}
    routes = {"predict_route": PREDICT, "health_route": HEALTH}
    with serving(echo_bento, tmp_path_factory.mktemp("logs") / "log", **settings, **routes) as service:
        yield Doors(service, port)


@pytest.fixture(scope="module")
def thousand() -> asking.Columns:
    return asking.thousand()


def called(port: int, method: str, request: Any, **metadata: str) -> tuple[bytes, dict[str, Any]]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        pairs = [(name.replace("_", "-"), value) for name, value in metadata.items()]
        answer, done = call.with_call(request.SerializeToString(), metadata=pairs, timeout=20)
        return answer, dict(done.initial_metadata())


def grpc_raw(port: int, rows: asking.Columns) -> asking.Answer:
    request = message("ModelInferRequest")(model_name="echo", id="g-1")
    for name, values in rows.items():
        request.inputs.add(name=name, datatype=asking.TYPES[name], shape=[asking.ROWS])
        request.raw_input_contents.append(asking.raw_bytes(name, values))
    answer, told = called(port, "ModelInfer", request)
    response = message("ModelInferResponse").FromString(answer)
    assert response.id == "g-1"
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {output.name: asking.from_raw(output.datatype, raw) for output, raw in pairs}, told["x-convoy-answer"]


CONTENTS = {"INT64": "int64_contents", "INT32": "int_contents", "FP64": "fp64_contents", "FP32": "fp32_contents"}
CONTENTS |= {"BOOL": "bool_contents", "BYTES": "bytes_contents"}


def grpc_typed(port: int, rows: asking.Columns) -> asking.Answer:
    request = message("ModelInferRequest")(model_name="echo", model_version="3")
    for name, values in rows.items():
        datatype = asking.TYPES[name]
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[asking.ROWS])
        sent = [value.encode() if datatype == "BYTES" else math.nan if value is None else value for value in values]
        getattr(tensor.contents, CONTENTS[datatype]).extend(sent)
    answer, told = called(port, "ModelInfer", request)
    response = message("ModelInferResponse").FromString(answer)
    columns = {output.name: list(getattr(output.contents, CONTENTS[output.datatype])) for output in response.outputs}
    texts = {name: [value.decode() for value in values] for name, values in columns.items() if isinstance(values[0], bytes)}
    return columns | texts, told["x-convoy-answer"]


def same(given: list[Any], found: list[Any], datatype: str) -> bool:
    """Tell whether values are the same bits; a missing number is null in JSON, an empty cell in CSV, and NaN elsewhere."""
    if datatype == "BYTES":
        return given == found
    one, other = (np.array([math.nan if value is None else value for value in values], asking.NUMPY[datatype]) for values in (given, found))
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def assert_echoed(rows: asking.Columns, answer: asking.Columns) -> None:
    assert set(answer["types"]) == {
        "age=int64,children=int32,hours=float64,rate=float32,member=bool,city=object,since=datetime64[ns],note=object"
    }
    for name, given in rows.items():
        if name == "since":
            assert [moment.removesuffix("000Z") + "+00:00" for moment in answer[name]] == given
        else:
            assert same(given, answer[name], asking.TYPES[name]), name


@pytest.mark.parametrize("door", asking.HTTP_DOORS, ids=lambda door: door.__name__)
def test_a_thousand_rows_are_answered_alike_at_every_door(
    door: Callable[[httpx.Client, asking.Columns], asking.Answer], doors: Doors, thousand: asking.Columns
) -> None:
    _, expected = asking.oip(doors.client, thousand)

    answer, told = door(doors.client, thousand)

    assert_echoed(thousand, answer)
    assert told == expected, "the outputs' mark differs"


@pytest.mark.parametrize("ask", [grpc_raw, grpc_typed])
def test_a_thousand_rows_are_answered_alike_over_grpc(
    ask: Callable[[int, asking.Columns], asking.Answer], doors: Doors, thousand: asking.Columns
) -> None:
    _, expected = asking.oip(doors.client, thousand)

    answer, told = ask(doors.grpc_port, thousand)

    assert_echoed(thousand, answer)
    assert told == expected, "the outputs' mark differs"


@pytest.mark.parametrize("path", [*DOORS, *PAGES])
def test_every_doors_answer_says_revision_region_and_request_id(path: str, doors: Doors, echo_bento: Path) -> None:
    method = "POST" if path in DOORS else "GET"
    for answer in (
        doors.client.request(method, path, headers={"x-request-id": "caller-1"}, content=b"{}" if path in DOORS else b""),
        doors.client.request("DELETE", path, headers={"x-request-id": "caller-1"}),
    ):
        assert answer.headers["x-convoy-revision"] == digest_of(echo_bento)
        assert answer.headers["x-convoy-region"] == "eu-west"
        assert answer.headers["x-request-id"] == "caller-1"


@pytest.mark.parametrize("path", [*DOORS, *PAGES])
def test_a_wrong_method_is_405_and_names_those_that_are_allowed(path: str, doors: Doors) -> None:
    answer = doors.client.request("PUT" if path in PAGES else "GET", path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == ("GET, HEAD" if path in PAGES else "POST")


@pytest.mark.parametrize("path", PAGES)
def test_what_only_reads_answers_and_has_no_body_for_head(path: str, doors: Doors) -> None:
    read, head = doors.client.get(path), doors.client.head(path)

    assert (read.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == read.headers["content-type"]


@pytest.mark.parametrize(
    "path",
    [
        "/metric",
        "/v2/models",
        "/v2/models/",
        "/v2/models/other",
        "/v2/models/echo/versions/4",
        "/invocations/",
        "/score/",
        "/v1/models/",
    ],
)
def test_an_unknown_path_model_or_version_is_404(path: str, doors: Doors) -> None:
    answer = doors.client.get(path)

    assert answer.status_code == 404
    assert "no such" in answer.json()["error"]


PICKLES = [
    "application/vnd.bentoml+pickle",
    "application/octet-stream",
    "application/x-pickle",
    "application/python-pickle",
    "application/x-python-serialize",
    "application/x-npy",
    "application/x-joblib",
    "application/json+pickle",
    "text/csv+pickle",
    "multipart/form-data",
]


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("kind", PICKLES)
def test_no_door_takes_a_pickle(path: str, kind: str, doors: Doors, tmp_path: Path) -> None:
    pickle = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."

    answer = doors.client.post(path, content=pickle, headers={"content-type": kind})

    assert answer.status_code == 415
    assert not (tmp_path / "ran").exists()


def test_a_pickle_that_passes_for_binary_tensors_or_for_no_type_is_not_loaded(doors: Doors, tmp_path: Path) -> None:
    pickle = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    head = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(pickle))}

    answers = [doors.client.post(DOORS[0], content=pickle, headers=headers) for headers in (head, {})]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("path", DOORS)
def test_a_body_over_the_limit_is_refused_before_it_is_read(path: str, doors: Doors) -> None:
    import socket

    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2000001\r\n\r\n"
    with socket.create_connection(("127.0.0.1", doors.service.port), timeout=10) as client:
        client.sendall(head.encode())
        assert client.makefile("rb").readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"


def test_a_message_over_the_limit_is_refused_over_grpc(doors: Doors) -> None:
    request = message("ModelInferRequest")(model_name="echo", raw_input_contents=[b"x" * 2_000_001])

    with pytest.raises(grpc.RpcError) as refused:
        called(doors.grpc_port, "ModelInfer", request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def grpc_row(**changes: Any) -> Any:
    request = message("ModelInferRequest")(model_name="echo")
    for tensor in row(**changes):
        added = request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=[1])
        sent = [value.encode() if isinstance(value, str) else value for value in tensor["data"]]
        getattr(added.contents, CONTENTS[tensor["datatype"]]).extend(sent)
    return request


def of_model(name: str, **more: str) -> Any:
    return message("ModelInferRequest")(model_name=name, **more)


def with_raw(request: Any, *raw: bytes) -> Any:
    request.raw_input_contents.extend(raw)
    return request


def twice(name: str) -> Any:
    request = of_model("echo")
    for _ in range(2):
        request.inputs.add(name=name, datatype="INT64", shape=[1])
    return request


def with_double(request: Any) -> Any:
    request.inputs[0].contents.fp64_contents.append(1.0)
    return request


REFUSED = {
    "another model": (of_model("other"), "NOT_FOUND", "no such model: 'other' (known: 'echo')"),
    "another version": (of_model("echo", model_version="4"), "NOT_FOUND", "no such version: '4'"),
    "no inputs": (of_model("echo"), "INVALID_ARGUMENT", '"inputs" must be a list'),
    "a model's failure": (grpc_row(city=("BYTES", "raise")), "INTERNAL", "ValueError: a legal pair"),
    "too few raw tensors": (with_raw(grpc_row(), b"x"), "INVALID_ARGUMENT", "raw_input_contents has 1 tensors, inputs has 6"),
    "raw beside contents": (with_raw(grpc_row(), *[b""] * 6), "INVALID_ARGUMENT", "column 'age': has contents beside the raw"),
    "values in two fields": (with_double(grpc_row()), "INVALID_ARGUMENT", "column 'age': its values must stand in int64_contents"),
    "a name too long to be repeated": (twice("n" * 100_000), "INVALID_ARGUMENT", "column 'nnn"),
    "a wrong datatype": (grpc_row(age=("FP64", 1.0)), "INVALID_ARGUMENT", "column 'age': the datatype must be INT64, not 'FP64'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_told_over_grpc_with_the_headers_of_every_answer(case: str, doors: Doors, echo_bento: Path) -> None:
    request, code, reason = REFUSED[case]

    with pytest.raises(grpc.RpcError) as refused:
        called(doors.grpc_port, "ModelInfer", request, x_request_id="caller-2")

    assert refused.value.code().name == code
    assert reason in refused.value.details()
    told = dict(refused.value.initial_metadata())
    assert (told["x-convoy-revision"], told["x-convoy-region"], told["x-request-id"]) == (digest_of(echo_bento), "eu-west", "caller-2")


def test_bytes_that_are_no_message_are_refused_over_grpc(doors: Doors) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{doors.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_where_no_port_is_given_nobody_listens_for_grpc_and_grpc_is_not_loaded(echo: Service) -> None:
    import psutil

    process = psutil.Process(echo.process.pid)
    assert {found.laddr.port for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN} == {echo.port}
    assert not [found.path for found in process.memory_maps() if "/grpc/" in found.path]


def test_answers_of_every_door_are_counted_and_captured(echo_bento: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from clouds.local.counters import read_counters

    port, rows = free_port(), {name: values[:1] for name, values in asking.thousand().items()}
    kept = {"usage": str(tmp_path / "counters"), "capture": str(tmp_path / "captured"), "grpc_port": str(port), "model": "echo"}
    with serving(echo_bento, tmp_path / "log", **kept) as service:
        bodies = [
            ("/invocations", {"dataframe_records": asking.records(rows)}),
            ("/v1/models/echo:predict", {"instances": asking.lists(rows)}),
            ("/score", {"input_data": rows}),
        ]
        for at, (path, body) in enumerate(bodies):
            asking.post(service.client, path, orjson.dumps(body), x_convoy_traffic="live", x_request_id=f"r-{at}")
        called(port, "ModelInfer", grpc_row(), x_convoy_traffic="live", x_request_id="r-3")
        refused = service.client.post("/score", json={}, headers={"x-convoy-traffic": "live"})
        assert service.stop() == 0

    counters = read_counters(tmp_path / "counters")
    assert counters is not None
    assert (counters.figures["live"].requests, counters.figures["live"].failed, refused.status_code) == (5, 1, 400)
    table = pq.read_table(next((tmp_path / "captured").glob("*/*.parquet"))).to_pydict()
    assert table["convoy.request_id"] == ["r-0", "r-1", "r-2", "r-3"]
    assert table["age"] == table["prediction.age"] == [*rows["age"] * 3, 9_007_199_254_740_993]
    assert table["city"][:3] == rows["city"] * 3
