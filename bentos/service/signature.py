"""What a model takes and gives, from its MLflow signature."""

from __future__ import annotations

from dataclasses import dataclass
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
    if declared is None or declared.inputs is None:
        raise ModelUnusable("the model has no signature: log it with its inputs and outputs, named and typed")
    inputs = declared.inputs
    tensors = inputs.is_tensor_spec()
    fields = tuple(_tensor(spec, index) if tensors else _column(spec, index) for index, spec in enumerate(inputs.inputs))
    outputs = tuple(_output(spec, index) for index, spec in enumerate(declared.outputs.inputs)) if declared.outputs else ()
    return Signature(fields, outputs, frame=not tensors, named=inputs.has_input_names(), params=params_of(declared))


def _column(spec: Any, index: int) -> Field:
    name = str(index) if spec.name is None else str(spec.name)
    dtype, text = COLUMN_TYPES.get(getattr(spec.type, "name", ""), ("object", Text.JSON))
    return Field(name, np.dtype(dtype), required=spec.required, text=text)


def _tensor(spec: Any, index: int) -> Field:
    name = spec.name or ("input" if index == 0 else f"input-{index}")
    dtype = spec.type if spec.type.name in DATATYPES else np.dtype(object)
    if not spec.shape or spec.shape[0] != -1:
        raise ModelUnusable(f"input '{name}': the first dimension of its shape must be -1, for the rows; it is {tuple(spec.shape)}")
    return Field(name, dtype, required=spec.required, tail=tuple(spec.shape[1:]))


def _output(spec: Any, index: int) -> Output:
    name = str(spec.name or ("output" if index == 0 else f"output-{index}"))
    if hasattr(spec, "shape"):
        return Output(name, DATATYPES.get(spec.type.name, "BYTES"), tuple(spec.shape))
    dtype, _ = COLUMN_TYPES.get(getattr(spec.type, "name", ""), ("object", Text.JSON))
    return Output(name, DATATYPES.get(dtype, "BYTES"), (-1,))
