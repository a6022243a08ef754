"""Rows and columns, as the other doors write them, as tensors of the Open Inference Protocol, and answers as rows again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from .answers import Form
from .errors import BadRequest
from .scorer import Scored
from .signature import Signature
from .tensors import Field, Text


def from_columns(signature: Signature, columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tensors of values by column; raises BadRequest for values that are not rectangular."""
    fields = signature.by_name
    # the scorer refuses unknown columns by name, whatever they hold
    return [_tensor(fields[name], values) if name in fields else {"name": name} for name, values in columns.items()]


def from_records(signature: Signature, records: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """Return tensors of rows that are objects; what a row does not have is null in it."""
    for at, record in enumerate(records):
        if not isinstance(record, dict):
            raise BadRequest(f"{where}[{at}] must be an object, as the rows before it are")
    names = dict.fromkeys(itertools.chain.from_iterable(records))
    return from_columns(signature, {name: [record.get(name) for record in records] for name in names})


def from_lists(signature: Signature, rows: Sequence[Any], names: Sequence[str] | None, where: str) -> list[dict[str, Any]]:
    """Return tensors of rows that are lists of values, in the order of `names`, or of the signature where there are none."""
    known = [field.name for field in signature.inputs]
    width = len(rows[0]) if isinstance(rows[0], list) else len(known)
    if names is None and width > len(known):
        raise BadRequest(f"{where}[0] has {width} values, the model has {len(known)} columns")
    columns = known[:width] if names is None else list(names)
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise BadRequest(f"{where}[{at}] must be a list of {len(columns)} values")
    return from_columns(signature, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))


def from_rows(signature: Signature, rows: Any, where: str) -> list[dict[str, Any]]:
    """Return tensors of rows in whichever form the model allows: objects, lists of values, or a single column's values."""
    if not isinstance(rows, list):
        raise BadRequest(f'"{where}" must be a list of rows')
    if not rows:
        raise BadRequest(f'"{where}" must have at least one row')
    if isinstance(rows[0], dict) and (signature.named or signature.frame):
        return from_records(signature, rows, where)
    if signature.frame and isinstance(rows[0], list):
        return from_lists(signature, rows, None, where)
    if len(signature.inputs) != 1:
        raise BadRequest(f"{where}[0] must be an object or a list of the model's {len(signature.inputs)} columns")
    return from_columns(signature, {signature.inputs[0].name: rows})


def _tensor(field: Field, values: Any) -> dict[str, Any]:
    if not isinstance(values, list):
        raise BadRequest(f"column '{field.name}': must be a list of {field.allowed}")
    if field.text is Text.JSON:
        values = [None if value is None and not field.required else _as_json(field, value) for value in values]
        return {"name": field.name, "datatype": field.datatype, "shape": [len(values)], "data": values}
    shape, flat = _flattened(field.name, values, max(2, 1 + len(field.tail)))
    return {"name": field.name, "datatype": field.datatype, "shape": shape, "data": flat}


def _as_json(field: Field, value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as problem:
        raise BadRequest(f"column '{field.name}': its values are nested too deeply") from problem


def _flattened(name: str, values: list[Any], most: int) -> tuple[list[int], list[Any]]:
    """Return shape and values of a nested list; raises BadRequest where its lists differ in length."""
    shape, level = [len(values)], values
    while len(shape) < most and level and all(type(row) is list for row in level):
        size = len(level[0])
        if any(len(row) != size for row in level):
            raise BadRequest(f"column '{name}': its lists differ in length")
        shape.append(size)
        level = list(itertools.chain.from_iterable(level))
    return shape, level


def predictions(scored: Scored) -> Any:
    """Return the answer as MLflow writes it: nested lists of an array, objects of a table's rows, or arrays by name."""
    if scored.form is Form.MAPPING:
        return {tensor["name"]: _nested(tensor) for tensor in scored.tensors}
    return by_row(scored)


def by_row(scored: Scored) -> Any:
    """Return the answer with one value for each row; raises BadRequest where the model's arrays have other lengths."""
    names, columns = [tensor["name"] for tensor in scored.tensors], [_nested(tensor) for tensor in scored.tensors]
    if scored.form is Form.ARRAY and len(columns) == 1:
        return columns[0]
    if len({len(column) for column in columns}) > 1:
        raise BadRequest("the model answers with arrays of other lengths than rows: ask at /v2 or /invocations")
    rows: Iterable[tuple[Any, ...]] = zip(*(_listed(column) for column in columns), strict=True)
    return [list(row) for row in rows] if scored.form is Form.ARRAY else [dict(zip(names, row, strict=True)) for row in rows]


def _listed(column: Any) -> list[Any]:
    return list(column.tolist() if isinstance(column, np.ndarray) else column)


def _nested(tensor: dict[str, Any]) -> Any:
    """Return a tensor's values in its shape, as an array or as nested lists."""
    data, shape = tensor["data"], tensor["shape"]
    if isinstance(data, np.ndarray):
        return data.reshape(shape)
    for size in reversed(shape[1:]):
        data = [data[at : at + size] for at in range(0, len(data), size)] if size else [[] for _ in range(shape[0])]
    return data
