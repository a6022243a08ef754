"""Rows that both ways of predicting must answer alike: the model's input example, some that are made up, and some with a gap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from .direct import Plan
from .tensors import Field

MOST_ROWS = 32
MOST_GAPS = 64
"""In how many columns at most a missing value is tried, each in a request of its own."""
SEED = 20261123
EXAMPLE = "the input example"


@dataclass(frozen=True, slots=True)
class Probe:
    """A request's body, what it is, and the column of which it has a value missing, if any."""

    what: str
    body: bytes
    gap: str = ""


def probes(plan: Plan) -> tuple[Probe, ...]:
    """Return the requests that a model is tried with; the first is its input example, where it has one that can be read."""
    fields = plan.signature.inputs
    example = _example(plan)
    base = example if example is not None else _made(fields)
    found = [Probe(EXAMPLE, _body(fields, example))] if example is not None else []
    found.append(Probe("rows that are made up", _body(fields, _made(fields))))
    real = [(place, field) for place, field in enumerate(fields) if field.dtype.kind == "f" and not field.tail]
    for place, field in real[:MOST_GAPS]:
        columns: list[Any] = [[column[0]] for column in base]
        columns[place] = [None]
        found.append(Probe(f"a missing value in column '{field.name}'", _body(fields, columns), field.name))
    return tuple(found)


def _example(plan: Plan) -> list[list[Any]] | None:
    """Return the saved example's values by column, None where there is none that fits the signature."""
    if plan.example is None:
        return None
    try:
        document = json.loads((plan.flavor.folder / Path(plan.example).name).read_bytes())
        if not plan.flavor.frame:
            array = document["inputs"] if isinstance(document, dict) else document
            return [np.asarray(array, dtype=np.float64)[:MOST_ROWS].tolist()]
        rows = document["data"][:MOST_ROWS]
        places = {str(name): at for at, name in enumerate(document.get("columns", range(len(rows[0]))))}
        columns = [[row[places[field.name]] for row in rows] for field in plan.signature.inputs]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return columns if rows else None


def _made(fields: tuple[Field, ...]) -> list[list[Any]]:
    """Return by column: zeros, ones and numbers around them, which are the same in every process."""
    random = np.random.default_rng(SEED)
    return [_column(field, random) for field in fields]


def _column(field: Field, random: np.random.Generator) -> list[Any]:
    tail = tuple(1 if size == -1 else size for size in field.tail)
    drawn = np.concatenate([np.zeros((1, *tail)), np.ones((1, *tail)), random.normal(0, 3, (6, *tail))])
    if field.dtype.kind in "iu":
        drawn = np.abs(drawn).round()
    values: list[Any] = drawn.astype(field.dtype).tolist()
    return values


def _body(fields: tuple[Field, ...], columns: list[list[Any]]) -> bytes:
    tensors = []
    for field, values in zip(fields, columns, strict=True):
        shape = list(np.shape(values)) if field.tail else [len(values)]
        tensors.append({"name": field.name, "datatype": field.datatype, "shape": shape, "data": values})
    return orjson.dumps({"inputs": tensors})
