"""The same thousand rows, asked at every door: each function returns the answer's columns and its `x-convoy-answer`."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
import orjson

TYPES = {
    "age": "INT64",
    "children": "INT32",
    "hours": "FP64",
    "rate": "FP32",
    "member": "BOOL",
    "city": "BYTES",
    "since": "BYTES",
    "note": "BYTES",
}
NUMPY = {"INT64": "<i8", "INT32": "<i4", "FP64": "<f8", "FP32": "<f4", "BOOL": "?"}
ROWS = 1000
Columns = dict[str, list[Any]]
Answer = tuple[Columns, str]


def thousand() -> Columns:
    """Rows that reach the ends of every type, with numbers missing, and texts that CSV and UTF-8 must quote."""
    random = np.random.default_rng(11)
    cities = ["Zürich", 'say "hi", twice', "two\nlines", "Ωμέγα;", " padded ", "東京,", "-", "0"]
    begin = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
    hours = [None if at % 17 == 0 else float(value) for at, value in enumerate(random.normal(0, 10.0 ** random.integers(-300, 300, ROWS)))]
    return {
        "age": [int(value) for value in random.integers(-(2**63), 2**63 - 1, ROWS)],
        "children": [int(value) for value in random.integers(-(2**31), 2**31 - 1, ROWS)],
        "hours": hours,
        "rate": [float(value) for value in random.normal(0, 1, ROWS).astype(np.float32)],
        "member": [bool(value) for value in random.integers(0, 2, ROWS)],
        "city": [cities[at % len(cities)] for at in range(ROWS)],
        "since": [(begin + timedelta(seconds=977 * at)).isoformat() for at in range(ROWS)],
        "note": [f"note {at}" for at in range(ROWS)],
    }


def post(client: httpx.Client, path: str, content: bytes, kind: str = "application/json", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.post(path, content=content, headers={"content-type": kind, **named})
    assert answer.status_code == 200, answer.text[:500]
    return answer


def records(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def lists(columns: Columns) -> list[list[Any]]:
    return [list(row) for row in zip(*columns.values(), strict=True)]


def by_name(outputs: list[dict[str, Any]]) -> Columns:
    return {output["name"]: output["data"] for output in outputs}


def from_rows(rows: list[dict[str, Any]]) -> Columns:
    return {name: [row[name] for row in rows] for name in rows[0]}


def oip(client: httpx.Client, rows: Columns) -> Answer:
    inputs = [{"name": name, "datatype": TYPES[name], "shape": [ROWS], "data": values} for name, values in rows.items()]
    answer = post(client, "/v2/models/echo/infer", orjson.dumps({"inputs": inputs}))
    return by_name(answer.json()["outputs"]), answer.headers["x-convoy-answer"]


def raw_bytes(name: str, values: list[Any]) -> bytes:
    if TYPES[name] == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    return np.array([np.nan if value is None else value for value in values], NUMPY[TYPES[name]]).tobytes()


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        values, at = [], 0
        while at < len(raw):
            (size,) = struct.unpack_from("<I", raw, at)
            values.append(raw[at + 4 : at + 4 + size].decode())
            at += 4 + size
        return values
    return list(np.frombuffer(raw, NUMPY[datatype]).tolist())


def oip_binary(client: httpx.Client, rows: Columns) -> Answer:
    chunks = {name: raw_bytes(name, values) for name, values in rows.items()}
    inputs = [
        {"name": name, "datatype": TYPES[name], "shape": [ROWS, 1], "parameters": {"binary_data_size": len(chunk)}}
        for name, chunk in chunks.items()
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    body = head + b"".join(chunks.values())
    answer = post(client, "/v2/models/echo/infer", body, "application/octet-stream", inference_header_content_length=str(len(head)))
    size = int(answer.headers["inference-header-content-length"])
    found, at = {}, size
    for output in orjson.loads(answer.content[:size])["outputs"]:
        length = output["parameters"]["binary_data_size"]
        found[output["name"]] = from_raw(output["datatype"], answer.content[at : at + length])
        at += length
    assert at == len(answer.content)
    return found, answer.headers["x-convoy-answer"]


def predicted(answer: httpx.Response) -> Answer:
    return from_rows(answer.json()["predictions"]), answer.headers["x-convoy-answer"]


def split(client: httpx.Client, rows: Columns) -> Answer:
    body = {"dataframe_split": {"index": list(range(ROWS)), "columns": list(rows), "data": lists(rows)}}
    return predicted(post(client, "/invocations", orjson.dumps(body)))


def dataframe_records(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/invocations", orjson.dumps({"dataframe_records": records(rows)})))


def instances(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/invocations", orjson.dumps({"instances": lists(rows)})))


def inputs(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/invocations", orjson.dumps({"inputs": rows})))


def csv_text(rows: Columns, header: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([list(rows)] if header else [])
    writer.writerows([[_cell(value) for value in row] for row in lists(rows)])
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_csv(text: str) -> Columns:
    header, *found = list(csv.reader(io.StringIO(text, newline="")))
    columns = dict(zip(header, map(list, zip(*found, strict=True)), strict=True))
    readers: dict[str, Callable[[str], Any]] = {"age": int, "children": int, "hours": float, "rate": float, "member": "true".__eq__}
    return {name: [None if cell == "" else readers.get(name, str)(cell) for cell in cells] for name, cells in columns.items()}


def csv_with_header(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/invocations", csv_text(rows, header=True), "text/csv", accept="application/json"))


def csv_both_ways(client: httpx.Client, rows: Columns) -> Answer:
    answer = post(client, "/invocations", csv_text(rows, header=False), "text/csv", accept="text/csv; header=present")
    assert answer.headers["content-type"] == "text/csv; header=present"
    return from_csv(answer.text), answer.headers["x-convoy-answer"]


def vertex(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/v1/models/echo:predict", orjson.dumps({"instances": records(rows)})))


def vertex_by_route(client: httpx.Client, rows: Columns) -> Answer:
    return predicted(post(client, "/v1/endpoints/7/deployedModels/9:predict", orjson.dumps({"instances": records(rows)})))


def azure(client: httpx.Client, rows: Columns) -> Answer:
    answer = post(client, "/score", orjson.dumps({"input_data": {"columns": list(rows), "data": lists(rows)}}))
    return from_rows(answer.json()), answer.headers["x-convoy-answer"]


HTTP_DOORS = (
    oip,
    oip_binary,
    split,
    dataframe_records,
    instances,
    inputs,
    csv_with_header,
    csv_both_ways,
    vertex,
    vertex_by_route,
    azure,
)
