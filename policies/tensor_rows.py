"""Rows of a model that takes tensors: of each tensor one value a row, its numbers in one list."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.golden_rows import EXAMPLE, Rows, Unfit
from policies.signature import Column, Signature

NUMBERS = "biuf"
"""NumPy's kinds of numbers and truths."""


def takes_tensors(signature: Signature) -> bool:
    """Say whether a model takes tensors and not columns."""
    return any(column.tensor is not None for column in signature.inputs)


def tensor_rows(table: Any | None, model: Path, signature: Signature) -> Rows:
    """Return the rows of a table that has a column of lists for each tensor, else those of the model's input example.

    Rows that hold what is no number are left out, as JSON cannot carry them. Raises Unfit where there are none that
    fit the signature.
    """
    import numpy
    import pyarrow

    names = [column.name or ("input" if at == 0 else f"input-{at}") for at, column in enumerate(signature.inputs)]
    if table is not None and set(names) <= set(table.column_names):
        given: Mapping[str, Any] = {name: table.column(name).to_pylist() for name in names}
    else:
        given = _example(model, names)
    arrays = {name: _array(name, given[name], column) for name, column in zip(names, signature.inputs, strict=True)}
    if len({len(array) for array in arrays.values()}) > 1:
        raise Unfit("the tensors of the rows have different numbers of rows")
    good = numpy.logical_and.reduce([numpy.isfinite(array).all(axis=1) for array in arrays.values()])
    found = {name: pyarrow.array(array[good].tolist()) for name, array in arrays.items()}
    return Rows(tuple((name, str(arrays[name].dtype)) for name in names), pyarrow.table(found))


def _example(model: Path, names: list[str]) -> Mapping[str, Any]:
    try:
        given = json.loads((model / EXAMPLE).read_bytes())["inputs"]
        return {name: given[name] for name in names} if isinstance(given, dict) else {only: given for (only,) in [names]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        none = f"there are neither rows with {', '.join(names)} nor an input example of tensors ({type(problem).__name__})"
        raise Unfit(f"{none}: log the model with input_example=, or declare rows that have them") from problem


def _array(name: str, values: Any, column: Column) -> Any:
    """Return a tensor's values with each row's numbers beside one another."""
    import numpy

    tensor = column.tensor
    try:
        dtype = numpy.dtype(tensor.dtype if tensor is not None else "")
        array = numpy.asarray(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError) as problem:
        raise Unfit(f"the rows of '{name}' are not of the signature's {column.kind}") from problem
    tail = () if tensor is None else tensor.shape[1:]
    size = math.prod(abs(each) for each in tail)
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(0, 1)
    fits = rows.shape[1] == size if -1 not in tail else rows.shape[1] % max(size, 1) == 0
    if dtype.kind not in NUMBERS or not fits or list(tail).count(-1) > 1:
        raise Unfit(f"the rows of '{name}' are not of the signature's {column.kind}")
    return rows
