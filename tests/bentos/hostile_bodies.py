"""Requests that nobody should send, as Hypothesis makes them: documents, damaged requests, CSV and binary tensors."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import orjson
from bentos_serving import tensor
from hypothesis import strategies as st

MODEL = "echo"
INFER = f"/v2/models/{MODEL}/infer"
DOORS = [INFER, "/invocations", f"/v1/models/{MODEL}:predict", "/score"]
ROW = {
    "age": ("INT64", 9_007_199_254_740_993),
    "children": ("INT32", -2_147_483_648),
    "hours": ("FP64", 0.1),
    "rate": ("FP32", 0.5),
    "member": ("BOOL", True),
    "city": ("BYTES", "Zürich"),
}
KEYS = ["inputs", "outputs", "parameters", "id", "instances", "params", "dataframe_split", "dataframe_records", "input_data"]
KEYS += ["columns", "data", "index", "name", "datatype", "shape", "binary_data_size", "binary_data_output", *ROW]
JSON = "application/json"
STRANGE = (b"1e999", b"-0", b"NaN", b"null", b"{}", b"[[]]", b'"\\ud800"', b"\\u0000", b"9" * 40, b"\xff\xfe", b"\xef\xbb\xbf")
STRANGE += (b'"', b",", b"]", b"}")


@dataclass(frozen=True, slots=True)
class Hostile:
    """One request: where it goes, its body, and its headers."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", JSON),)


def row(**changes: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return the tensors of one row, some of them changed."""
    return [tensor(name, *changes.get(name, given)) for name, given in ROW.items()]


def fine() -> list[Hostile]:
    """Return a request for each door that is answered."""
    frame = {name: [value] for name, (_, value) in ROW.items()}
    values = {name: value for name, (_, value) in ROW.items()}
    documents: list[tuple[str, Any]] = [
        (INFER, {"inputs": row()}),
        ("/invocations", {"dataframe_split": {"columns": list(frame), "data": [list(values.values())]}}),
        (f"/v1/models/{MODEL}:predict", {"instances": [values]}),
        ("/score", {"input_data": frame}),
    ]
    return [Hostile(path, orjson.dumps(document)) for path, document in documents]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["INT64", "BYTES", "FP64"])
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
)
shaped = st.dictionaries(st.sampled_from(KEYS), documents, max_size=3)
sizes = st.none() | st.integers(-5, 60) | st.floats() | st.just("4")
lines = st.binary(max_size=200) | st.text(alphabet='0,1"\n\r.;-eé\ufeff', max_size=60).map(str.encode)


@st.composite
def of_documents(draw: st.DrawFn) -> Hostile:
    """A document of any shape; Python writes NaN and Infinity too, which are no JSON."""
    return Hostile(draw(st.sampled_from(DOORS)), json.dumps(draw(documents | shaped)).encode())


@st.composite
def damaged(draw: st.DrawFn) -> Hostile:
    """A request that would be answered, with some of its bytes replaced, taken away or added."""
    request = draw(st.sampled_from(fine()))
    begin, size = draw(st.integers(0, len(request.body))), draw(st.integers(0, 6))
    return replace(request, body=request.body[:begin] + draw(st.binary(max_size=6)) + request.body[begin + size :])


@st.composite
def of_lines(draw: st.DrawFn) -> Hostile:
    """What calls itself CSV."""
    header = draw(st.sampled_from(["", "; header=present"]))
    return Hostile("/invocations", draw(lines), (("content-type", f"text/csv{header}"), ("accept", "*/*")))


@st.composite
def of_binary(draw: st.DrawFn) -> Hostile:
    """Binary tensors whose sizes are not what they say."""
    inputs = row()
    for each in inputs:
        if draw(st.booleans()):
            each.pop("data")
            each["parameters"] = {"binary_data_size": draw(sizes)}
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": draw(documents)}}).encode()
    length = draw(st.integers(-3, 3).map(lambda more: str(len(head) + more)) | st.sampled_from(["", "-1", "x", "9" * 40, "1.5", "²"]))
    headers = (("content-type", "application/octet-stream"), ("inference-header-content-length", length))
    return Hostile(INFER, head + draw(st.binary(max_size=60)), headers)


def mutated(request: Hostile, count: int, seed: int) -> list[Hostile]:
    """Return so many requests with a body that is damaged once more, each otherwise: cut, doubled, or something strange in it."""
    chance = random.Random(seed)
    return [replace(request, body=_hurt(request.body, chance)) for _ in range(count)]


def _hurt(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 3)):
        begin = chance.randint(0, len(body))
        end = min(len(body), begin + chance.randint(0, 12))
        instead = chance.choice((b"", body[begin:end] * 2, bytes(chance.randbytes(chance.randint(1, 8))), chance.choice(STRANGE)))
        body = body[: chance.randint(0, len(body))] if chance.random() < 0.1 else body[:begin] + instead + body[end:]
    return body
