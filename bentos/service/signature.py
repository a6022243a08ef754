"""What a model takes and gives, from its MLflow signature."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import ModelUnusable
from .params import Param, params_of
from .tensors import DATATYPES, Field, Text

COLUMN_TYPES: dict[str, tuple[str, Text]] = {
    "boolean": ("bool", Text.PLAIN),
    "integer": ("int32", Text.PLAIN),
    "long": ("int64", Text.PLAIN),
    "float": ("float32", Text.PLAIN),
    "double": ("float64", Text.PLAIN),
    "string": ("object", Text.PLAIN),
    "binary": ("object", Text.BINARY),
    "datetime": ("object", Text.MOMENT),
}


@dataclass(frozen=True, slots=True)
class Output:
    """One declared output; `shape` starts with -1 for the rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs in their declared order.

    `frame` says whether the model takes a pandas DataFrame of columns; otherwise it takes an array (`named` false) or
    a mapping of arrays.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Output, ...]
    frame: bool
    named: bool
    params: tuple[Param, ...] = ()

    @property
    def by_name(self) -> dict[str, Field]:
        """Inputs by name."""
        return {field.name: field for field in self.inputs}


def signature_of(declared: Any) -> Signature:
    """Return the service's view of an `mlflow.models.ModelSignature`; raises ModelUnusable where it is absent or unknown."""
    return replace(compiled(None if declared is None else declared.to_dict()), params=params_of(declared))


def compiled(document: Any) -> Signature:
    """Return the service's view of the entry `signature` of an MLmodel file; raises ModelUnusable where it is absent or unknown."""
    inputs = _specs(document, "inputs")
    if not inputs:
        raise ModelUnusable("the model has no signature: log it with its inputs and outputs, named and typed")
    tensors = inputs[0].get("type") == "tensor"
    fields = tuple(_tensor(spec, index) if tensors else _column(spec, index) for index, spec in enumerate(inputs))
    outputs = tuple(_output(spec, index) for index, spec in enumerate(_specs(document, "outputs")))
    return Signature(fields, outputs, frame=not tensors, named=inputs[0].get("name") is not None)


def declares_params(document: Any) -> bool:
    """Tell whether the entry `signature` of an MLmodel file declares parameters of a prediction."""
    return bool(_specs(document, "params"))


def _specs(document: Any, side: str) -> list[dict[str, Any]]:
    """Return what one side of a signature declares, nothing where it declares nothing."""
    text = document.get(side) if isinstance(document, dict) else None
    try:
        specs = json.loads(text) if text else []
    except (ValueError, TypeError) as problem:
        raise ModelUnusable(f"the signature's {side} cannot be read ({problem})") from problem
    if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs):
        raise ModelUnusable(f"the signature's {side} are no list of columns or tensors")
    return specs


def _column(spec: dict[str, Any], index: int) -> Field:
    name = str(index) if spec.get("name") is None else str(spec["name"])
    dtype, text = COLUMN_TYPES.get(str(spec.get("type")), ("object", Text.JSON))
    return Field(name, np.dtype(dtype), required=bool(spec.get("required", True)), text=text)


def _tensor(spec: dict[str, Any], index: int) -> Field:
    name = str(spec.get("name") or ("input" if index == 0 else f"input-{index}"))
    kind, shape = _described(spec, name)
    dtype = np.dtype(kind) if kind in DATATYPES else np.dtype(object)
    if not shape or shape[0] != -1:
        raise ModelUnusable(f"input '{name}': the first dimension of its shape must be -1, for the rows; it is {shape}")
    return Field(name, dtype, required=bool(spec.get("required", True)), tail=shape[1:])


def _output(spec: dict[str, Any], index: int) -> Output:
    name = str(spec.get("name") or ("output" if index == 0 else f"output-{index}"))
    if spec.get("type") == "tensor":
        kind, shape = _described(spec, name)
        return Output(name, DATATYPES.get(kind, "BYTES"), shape)
    dtype, _ = COLUMN_TYPES.get(str(spec.get("type")), ("object", Text.JSON))
    return Output(name, DATATYPES.get(dtype, "BYTES"), (-1,))


def _described(spec: dict[str, Any], name: str) -> tuple[str, tuple[int, ...]]:
    """Return the type and the shape of a tensor."""
    try:
        tensor = spec["tensor-spec"]
        return str(tensor["dtype"]), tuple(int(size) for size in tensor["shape"])
    except (KeyError, TypeError, ValueError) as problem:
        raise ModelUnusable(f"the tensor '{name}' of the signature cannot be read") from problem
