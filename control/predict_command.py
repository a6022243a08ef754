"""`convoy predict`: rows in, the edge's answer out."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import httpx

from control.printing import print_json
from fleet.errors import InputError, OperationFailed, Unreachable
from flows.house import House

ANSWER_SECONDS = 30.0


def ask(model: str, source: Path, edge: str | None = None) -> None:
    """Send a file's rows to a model through an edge, the first unless one is named; print answer, revision and region."""
    house = House.open()
    house.model(model)
    url = f"{house.edge_place(edge).url}/v2/models/{model}"
    with httpx.Client(timeout=ANSWER_SECONDS) as client:
        document = read_rows(source)
        request = document if isinstance(document, dict) else tensors(document, _inputs(client, url, model))
        answer = _send(client, "POST", f"{url}/infer", request)
    if answer.status_code >= 400:
        says = (
            answer.json().get("error", answer.text)
            if answer.headers.get("content-type", "").startswith("application/json")
            else answer.text
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise _not_served(model)
        if answer.status_code < 500:
            raise InputError(str(source), str(says), "Correct the rows.")
        raise OperationFailed(f"model '{model}'", f"answered {answer.status_code}: {says}", "See `convoy status`.")
    print_json(
        {
            "answer": answer.json(),
            "revision": answer.headers.get("x-convoy-revision"),
            "region": answer.headers.get("x-convoy-region"),
            "request_id": answer.headers.get("x-request-id"),
        }
    )


def read_rows(source: Path) -> Any:
    """Return the rows of a file as a list of objects, or the v2 request that it holds; raises InputError."""
    try:
        text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(str(source), f"cannot be read ({problem})", "Name a JSON or CSV file.") from problem
    if source.suffix == ".csv":
        try:
            return _csv_rows(source, text)
        except csv.Error as problem:
            raise InputError(str(source), f"is not CSV ({problem})", "Quote cells that hold commas, quotes or line ends.") from problem
    try:
        document = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except ValueError as problem:
        raise InputError(str(source), f"is not JSON ({problem})", "Give a list of objects, a v2 request, or a .csv file.") from problem
    rows = isinstance(document, list) and document and all(isinstance(row, dict) for row in document)
    if not rows and not (isinstance(document, dict) and "inputs" in document):
        raise InputError(str(source), "holds neither rows nor a v2 request", 'Write [{"column": value, ...}, ...] or {"inputs": [...]}.')
    return document


def tensors(rows: list[dict[str, Any]], inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the v2 request that asks about the rows, one tensor per column of the model's schema."""
    known = {found["name"]: found["datatype"] for found in inputs}
    unknown = {name for row in rows for name in row} - set(known)
    if unknown:
        raise InputError("rows", f"the model knows no column {', '.join(sorted(unknown))}", f"Its columns: {', '.join(known)}.")
    used = [name for name in known if any(name in row for row in rows)]
    missing = [name for name in used if any(name not in row for row in rows)]
    if missing:
        raise InputError("rows", f"column {', '.join(missing)} is not in every row", "Give every row the same columns.")
    return {"inputs": [{"name": name, "shape": [len(rows)], "datatype": known[name], "data": [row[name] for row in rows]} for name in used]}


def _inputs(client: httpx.Client, url: str, model: str) -> list[dict[str, Any]]:
    answer = _send(client, "GET", url)
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise _not_served(model)
    if not answer.is_success:
        raise OperationFailed(url, f"answered {answer.status_code}: {answer.text[:200]}", "Release a version first; see `convoy status`.")
    return list(answer.json()["inputs"])


def _send(client: httpx.Client, method: str, url: str, document: Any = None) -> httpx.Response:
    try:
        return client.request(method, url, json=document)
    except httpx.TransportError as problem:
        raise Unreachable(url, f"does not answer ({type(problem).__name__})", "Run `convoy up`.") from problem


def _not_served(model: str) -> OperationFailed:
    return OperationFailed(f"model '{model}'", "is not served yet", "Release a version first; see `convoy status`.")


def _csv_rows(source: Path, text: str) -> list[dict[str, int | float | str]]:
    reader = csv.reader(io.StringIO(text))
    columns = next(reader, [])
    rows = []
    for cells in filter(None, reader):
        line = f"{source} line {reader.line_num}"
        if len(cells) != len(columns):
            raise InputError(line, f"has {len(cells)} cells for {len(columns)} columns", "Give every row one cell per column.")
        rows.append({column: _number(cell, f"{line}, column {column}") for column, cell in zip(columns, cells, strict=True)})
    if not rows:
        raise InputError(str(source), "holds no rows", "Write a header line, then one line per row.")
    return rows


def _number(text: str, where: str) -> int | float | str:
    """Return what a cell holds; raises InputError for what looks like a number to Python and is none that could be sent."""
    for kind in (int, float):
        try:
            value: int | float = kind(text)
        except ValueError:
            continue
        if "_" in text or not math.isfinite(value):
            raise InputError(
                where, f"{text!r} is not a number that can be sent", "Write plain digits; text that looks like this goes as JSON."
            )
        return value
    return text


def _finite(text: str) -> float:
    """Read a JSON number; NaN and the infinities, which Python would take, are none."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number in JSON")
    return value
