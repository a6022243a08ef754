"""Requests of different doors meet in one call of the model, and each gets its own answer in its own form."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import ParamSchema, ParamSpec

from bentos.service.azure import Azure
from bentos.service.batcher import Batcher, Limits
from bentos.service.board import Board
from bentos.service.doors import Call, Enquiry, Question, Reply
from bentos.service.errors import BadRequest
from bentos.service.grpc_door import Grpc
from bentos.service.grpc_messages import message
from bentos.service.invocations import Invocations
from bentos.service.oip import JSON_BYTES, Oip
from bentos.service.prediction import Direct, Pyfunc
from bentos.service.schema import Schema as Compiled
from bentos.service.scorer import Scorer
from bentos.service.signature import signature_of
from bentos.service.vertex import Vertex
from bentos.service.visits import Deadline
from bentos.service.worker import Worker

SIGNATURE = signature_of(ModelSignature(inputs=Schema([ColSpec("double", "a"), ColSpec("double", "b")])))
PATIENT = Deadline(30.0, 30.0)
JSON = {b"content-type": b"application/json"}
CSV = {b"content-type": b"text/csv", b"accept": b"text/csv"}


def tensors(*rows: tuple[float, float]) -> list[dict[str, Any]]:
    columns = zip(("a", "b"), zip(*rows, strict=True), strict=True)
    return [{"name": name, "datatype": "FP64", "shape": [len(rows)], "data": list(values)} for name, values in columns]


def oip(*rows: tuple[float, float]) -> Enquiry:
    return Enquiry(Oip(), Call(orjson.dumps({"inputs": tensors(*rows)}), JSON), keep=True)


def binary(*rows: tuple[float, float]) -> Enquiry:
    arrays = [np.array(values, "<f8").tobytes() for values in zip(*rows, strict=True)]
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows)], "parameters": {"binary_data_size": len(raw)}}
        for name, raw in zip(("a", "b"), arrays, strict=True)
    ]
    head = orjson.dumps({"inputs": inputs})
    return Enquiry(Oip(), Call(head + b"".join(arrays), {JSON_BYTES: str(len(head)).encode()}))


def invocation(*rows: tuple[float, float]) -> Enquiry:
    body = {"dataframe_split": {"columns": ["b", "a"], "data": [[b, a] for a, b in rows]}}
    return Enquiry(Invocations(), Call(orjson.dumps(body), JSON), keep=True)


def csv_rows(*rows: tuple[float, float]) -> Enquiry:
    return Enquiry(Invocations(), Call("".join(f"{a},{b}\n" for a, b in rows).encode(), CSV))


def vertex(*rows: tuple[float, float]) -> Enquiry:
    return Enquiry(Vertex(), Call(orjson.dumps({"instances": [{"a": a, "b": b} for a, b in rows]}), JSON))


def azure(*rows: tuple[float, float]) -> Enquiry:
    return Enquiry(Azure(), Call(orjson.dumps({"input_data": {"columns": ["a", "b"], "data": [list(row) for row in rows]}}), JSON))


def grpc(*rows: tuple[float, float]) -> Enquiry:
    request = message("ModelInferRequest")(model_name="m", id="g")
    for tensor in tensors(*rows):
        given = request.inputs.add(name=tensor["name"], datatype="FP64", shape=tensor["shape"])
        given.contents.fp64_contents.extend(tensor["data"])
    return Enquiry(Grpc(), Call(request.SerializeToString(), {}))


READERS: dict[Callable[..., Enquiry], Callable[[bytes], list[float]]] = {
    oip: lambda body: orjson.loads(body)["outputs"][0]["data"],
    binary: lambda body: orjson.loads(body)["outputs"][0]["data"],
    invocation: lambda body: orjson.loads(body)["predictions"],
    csv_rows: lambda body: [float(cell) for (cell,) in csv.reader(io.StringIO(body.decode()))],
    vertex: lambda body: orjson.loads(body)["predictions"],
    azure: orjson.loads,
    grpc: lambda body: list(message("ModelInferResponse").FromString(body).outputs[0].contents.fp64_contents),
}


def answers(batcher: Batcher, *enquiries: Enquiry) -> list[Any]:
    async def story() -> list[Any]:
        return await asyncio.gather(*(batcher.answer(each, PATIENT) for each in enquiries), return_exceptions=True)

    return [each if isinstance(each, BaseException) else each[0] for each in asyncio.run(story())]


def direct(calls: list[int]) -> Batcher:
    def ask(block: Any) -> Any:
        calls.append(len(block))
        return block.sum(axis=1)

    scorer = Scorer("m", "1", SIGNATURE, None, Direct("test", ask), Compiled(SIGNATURE, stacked=True))
    return Batcher(scorer, Worker(4), Limits(), Board())


def test_requests_of_every_door_share_one_call_and_each_is_answered_in_its_doors_form() -> None:
    calls: list[int] = []
    given = {door: [(100.0 * at, float(row)) for row in range(1 + at)] for at, door in enumerate(READERS, 1)}

    found = answers(direct(calls), *(door(*rows) for door, rows in given.items()))

    assert calls == [sum(map(len, given.values()))]
    for (door, rows), reply in zip(given.items(), found, strict=True):
        assert READERS[door](reply.body) == [a + b for a, b in rows], door.__name__


def test_a_wrong_request_of_one_door_spoils_none_of_anothers() -> None:
    calls: list[int] = []
    wrong = Enquiry(Invocations(), Call(b'{"instances": [{"a": 1, "c": 2}]}', JSON))

    first, refused, last = answers(direct(calls), oip((1.0, 2.0)), wrong, vertex((3.0, 4.0)))

    assert isinstance(refused, BadRequest)
    assert "unknown column 'c'" in str(refused)
    assert (READERS[oip](first.body), READERS[vertex](last.body)) == ([3.0], [7.0])


def test_the_same_rows_have_the_same_mark_at_every_door_and_are_captured_alike() -> None:
    found: list[Reply] = answers(direct([]), *(door((1.5, 2.5)) for door in READERS))

    assert len({reply.told for reply in found}) == 1
    kept = [reply.kept for reply in found if reply.kept is not None]
    assert [(orjson.loads(asked)["inputs"], orjson.loads(told)["outputs"][0]["data"]) for asked, told in kept] == [
        (tensors((1.5, 2.5)), [4.0]),
        (tensors((1.5, 2.5))[::-1], [4.0]),
    ]


@pytest.mark.parametrize(("rows", "thread"), [(2, "MainThread"), (3000, "predictions")])
def test_rows_that_take_long_to_read_are_not_read_in_the_event_loop(rows: int, thread: str) -> None:
    readers: list[str] = []

    class Watched(Invocations):
        def read(self, scorer: Scorer, call: Call) -> Question:
            readers.append(threading.current_thread().name)
            return super().read(scorer, call)

    given = [(float(at), 1.0) for at in range(rows)]
    (reply,) = answers(direct([]), csv_rows(*given)._replace(door=Watched()))

    assert readers == [thread]
    assert READERS[csv_rows](reply.body) == [a + b for a, b in given]


def test_what_a_caller_puts_beside_its_tensors_is_not_kept_and_spoils_no_answer() -> None:
    inputs = tensors((1.5, 2.5))
    deep = b"[" * 300 + b"]" * 300
    body = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": False}})
    body = body.replace(b'"datatype"', b'"parameters":{"deep":%b},"datatype"' % deep, 1)

    (reply,) = answers(direct([]), Enquiry(Oip(), Call(body, JSON), keep=True))

    assert orjson.loads(reply.kept[0]) == {"inputs": inputs}


class Scaled:
    """A pyfunc with a parameter, which notes what it was asked with."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any]] = []

    def predict(self, frame: Any, params: Mapping[str, Any] | None = None) -> Any:
        self.asked.append((len(frame), params))
        return frame["a"].to_numpy() * (params or {"by": 1.0})["by"]


def test_requests_with_parameters_go_alone_and_those_without_together() -> None:
    declared = ModelSignature(inputs=Schema([ColSpec("double", "a")]), params=ParamSchema([ParamSpec("by", "double", 1.0)]))
    model, signature = Scaled(), signature_of(declared)
    scorer = Scorer("m", "1", signature, model, Pyfunc(signature, model, together=True))
    column = {"name": "a", "datatype": "FP64", "shape": [1], "data": [2.0]}

    def scaled(by: float) -> Enquiry:
        return Enquiry(Oip(), Call(orjson.dumps({"inputs": [column], "parameters": {"by": by}}), JSON))

    plain = Enquiry(Oip(), Call(orjson.dumps({"inputs": [column]}), JSON))
    azures = Enquiry(Azure(), Call(orjson.dumps({"input_data": [{"a": 2.0}], "params": {"by": 5.0}}), JSON))
    found = answers(Batcher(scorer, Worker(4), Limits(), Board()), plain, scaled(3.0), plain, scaled(3.0), azures, plain)

    assert [READERS[oip](found[at].body) for at in (0, 1, 2, 3, 5)] == [[2.0], [6.0], [2.0], [6.0], [2.0]]
    assert orjson.loads(found[4].body) == [10.0]
    assert sorted(model.asked, key=str) == [(1, {"by": 3.0}), (1, {"by": 3.0}), (1, {"by": 5.0}), (3, None)]


@pytest.mark.parametrize("door", READERS, ids=lambda door: door.__name__)
def test_a_value_that_may_not_be_missing_is_refused_at_every_door_by_its_column(door: Callable[..., Enquiry]) -> None:
    scorer = Scorer("m", "1", SIGNATURE, None, Direct("test", lambda block: block[:, 0]))
    scorer = replace(scorer, compiled=Compiled(SIGNATURE, stacked=True, refuses=("b",)))
    missing: Any = float("nan") if door in (binary, grpc) else "" if door is csv_rows else None

    good, refused = answers(Batcher(scorer, Worker(4), Limits(), Board()), door((1.0, 2.0)), door((1.0, missing)))

    assert READERS[door](good.body) == [1.0]
    assert isinstance(refused, BadRequest)
    assert "column 'b': row 0 has null" in str(refused)
