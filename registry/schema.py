"""A model's schema as its MLmodel file says it, read as plain YAML: nothing of the model is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InputError
from fleet.yaml_text import Unreadable, read_yaml_file

FILE = "MLmodel"


@dataclass(frozen=True, slots=True)
class Column:
    """One input or output: its name (a bare tensor has none), MLflow's type (`double`, `string`, `tensor(float64)`)."""

    name: str | None
    type: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """What a model takes and what it gives."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]


def read_schema(folder: Path) -> ModelSchema | None:
    """Return the schema of an MLflow model folder, or None when it has no signature with inputs and outputs.

    Raises InputError when the folder has no readable MLmodel file or its signature is not one.
    """
    path = folder / FILE
    try:
        document = read_yaml_file(path)
    except Unreadable as problem:
        raise InputError(str(path), str(problem), "Log the model again with MLflow.") from problem
    signature = document.get("signature") if isinstance(document, dict) else None
    if not isinstance(signature, dict) or not signature.get("inputs") or not signature.get("outputs"):
        return None
    try:
        return ModelSchema(_columns(signature["inputs"]), _columns(signature["outputs"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise InputError(str(path), f"has a signature that cannot be read ({problem})", "Log the model again with MLflow.") from problem


def _columns(text: str) -> tuple[Column, ...]:
    found: Sequence[Mapping[str, object]] = json.loads(text)
    return tuple(_column(column) for column in found)


def _column(column: Mapping[str, object]) -> Column:
    name = column.get("name")
    kind = str(column["type"])
    tensor = column.get("tensor-spec")
    if isinstance(tensor, Mapping):
        kind = f"tensor({tensor['dtype']})"
    return Column(None if name is None else str(name), kind, bool(column.get("required", True)))
