"""Rows as CSV (RFC 4180): what SageMaker's and MLflow's callers send, and what they are answered.

The first record is a header where the content type says `header=present`, or where all its cells are columns of the
model. Without one the columns are the signature's, in its order. An empty cell is a missing value where the column may
have one: in a column of real numbers, and in one that may be left out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from .errors import BadRequest
from .scorer import Scored
from .signature import Signature
from .tensors import Field

TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
WHOLE = re.compile(r"[+-]?[0-9]{1,30}")


def from_csv(signature: Signature, body: bytes, header: str | None) -> list[dict[str, Any]]:
    """Return tensors of a text's rows; `header` is the content type's parameter. Raises BadRequest that names line and column."""
    if any(field.tail for field in signature.inputs):
        raise BadRequest("CSV has columns of single values only, the model takes arrays: send JSON")
    records = _records(body)
    if not records:
        raise BadRequest("the body has no rows")
    fields = signature.by_name
    # columns without names are numbered, which rows of numbers could be taken for
    named = header == "present" or (header != "absent" and signature.named and set(records[0]) <= set(fields))
    names = records.pop(0) if named else list(fields)[: len(records[0])]
    if len(set(names)) != len(names):
        raise BadRequest("a column is given twice")
    if not records:
        raise BadRequest("the body has no rows")
    for number, record in enumerate(records, 2 if named else 1):
        if len(record) != len(names):
            raise BadRequest(f"record {number} has {len(record)} values, not {len(names)}")
    columns = dict(zip(names, zip(*records, strict=True), strict=True))
    tensors = (_tensor(fields[name], cells) if name in fields else {"name": name} for name, cells in columns.items())
    return [tensor for tensor in tensors if tensor is not None]


def _records(body: bytes) -> list[list[str]]:
    try:
        # utf-8-sig: spreadsheets begin their files with a mark
        records = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as problem:
        raise BadRequest(f"the body is not CSV in UTF-8 ({problem})") from problem
    while records and not records[-1]:
        records.pop()
    return records


def _tensor(field: Field, cells: tuple[str, ...]) -> dict[str, Any] | None:
    """Return a column's tensor; None for one that may be left out and has no cell with a value."""
    if not field.required and not any(cells):
        return None
    read = READERS[field.dtype.kind]
    missing = field.dtype.kind == "f" or not field.required
    data = [None if cell == "" and missing else read(field, cell) for cell in cells]
    return {"name": field.name, "datatype": field.datatype, "shape": [len(data)], "data": data}


def _whole(field: Field, cell: str) -> int:
    # blanks and tabs alone: what strip() takes away besides is no blank to int()
    found = WHOLE.fullmatch(cell.strip(" \t"))
    if not found:
        raise BadRequest(f"column '{field.name}': {cell[:40]!r} must be one of {field.allowed}")
    return int(found[0])


def _real(field: Field, cell: str) -> float:
    try:
        # Python's own numbers may have underscores
        return float(cell.replace("_", "?"))
    except ValueError as problem:
        raise BadRequest(f"column '{field.name}': {cell[:40]!r} must be one of {field.allowed}") from problem


def _truth(field: Field, cell: str) -> bool:
    if cell not in TRUTH:
        raise BadRequest(f"column '{field.name}': {cell[:40]!r} must be one of {field.allowed}")
    return TRUTH[cell]


def _text(field: Field, cell: str) -> str:
    return cell


READERS: dict[str, Callable[[Field, str], Any]] = {"i": _whole, "u": _whole, "f": _real, "b": _truth, "O": _text}


def to_csv(scored: Scored, header: bool) -> bytes:
    """Return the answer as CSV, a line for each row; raises BadRequest where the model's arrays have other lengths."""
    names: list[str] = []
    columns: list[list[str]] = []
    for tensor in scored.tensors:
        cells = _cells(tensor)
        wide = len(cells) // max(tensor["shape"][0], 1)
        names += [tensor["name"]] if len(tensor["shape"]) == 1 else [f"{tensor['name']}.{at}" for at in range(wide)]
        columns += [cells[at::wide] for at in range(wide)]
    if len({len(column) for column in columns}) > 1:
        raise BadRequest("the model answers with arrays of other lengths than rows: ask for JSON")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([names] if header else [])
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue().encode()


def _cells(tensor: dict[str, Any]) -> list[str]:
    """Return a tensor's values as JSON writes them; what is missing is an empty cell."""
    data = tensor["data"]
    if not isinstance(data, np.ndarray):
        return ["" if value is None else value for value in data]
    written = orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY).decode()[1:-1]
    return ["" if cell == "null" else cell for cell in written.split(",")] if written else []
