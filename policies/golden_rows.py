"""Golden rows out of a Parquet file: read as data, in exactly the types that a model's signature names."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.errors import InputError
from policies.golden_set import Value
from policies.signature import Column, Signature

PREDICTION = "prediction."
TYPES = {
    "boolean": ("bool_", "BOOL"),
    "integer": ("int32", "INT32"),
    "long": ("int64", "INT64"),
    "float": ("float32", "FP32"),
    "double": ("float64", "FP64"),
    "string": ("string", "BYTES"),
    "datetime": ("timestamp[ns]", "BYTES"),
}
"""Arrow's and the protocol's names of the column types that a flat row can hold."""
REAL = ("float", "double")
EXAMPLE = "serving_input_example.json"
"""What MLflow writes beside a model that was logged with an input example."""


class Unfit(Exception):
    """These rows cannot be golden ones of this model, for the reason given."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a model's inputs as an Arrow table in the signature's order, with the protocol's type of each column."""

    inputs: tuple[tuple[str, str], ...]
    table: Any

    def values(self) -> tuple[tuple[Value, ...], ...]:
        """Return the rows as they travel in JSON: a missing number is None, a moment is ISO 8601."""
        columns = [_travelling(self.table.column(name)) for name, _ in self.inputs]
        return tuple(zip(*columns, strict=True))

    def write(self, to: Path) -> Path:
        """Write the rows as Parquet and return the file."""
        from pyarrow import parquet

        to.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(self.table, to)
        return to


def rows_of(table: Any, signature: Signature) -> Rows:
    """Return a table's rows as a model's inputs; raises Unfit where a column is missing, cannot be cast or cannot travel."""
    import pyarrow

    found = {}
    for column in signature.inputs:
        name = _name(column)
        if name not in table.column_names:
            if column.needed:
                raise Unfit(f"the rows have no column '{name}'")
            continue
        try:
            found[name] = table.column(name).cast(_arrow(column))
        except pyarrow.ArrowException as problem:
            raise Unfit(f"column '{name}' does not fit the signature's type {column.kind} ({problem})") from problem
    inputs = tuple((_name(column), TYPES[column.type][1]) for column in signature.inputs if _name(column) in found)
    return Rows(inputs, pyarrow.table(found))


def sendable(rows: Rows, signature: Signature) -> Rows:
    """Return the rows that a request can hold: no infinity, and a value wherever the protocol has no word for none."""
    import pyarrow
    from pyarrow import compute

    keep = pyarrow.array([True] * rows.table.num_rows)
    for column in signature.inputs:
        if _name(column) not in rows.table.column_names:
            continue
        values = rows.table.column(_name(column)).combine_chunks()
        if column.type in REAL:
            keep = compute.and_(keep, compute.invert(compute.fill_null(compute.is_inf(values), False)))
        elif not _may_miss(column):
            keep = compute.and_(keep, compute.is_valid(values))
    return Rows(rows.inputs, rows.table.filter(keep))


def spread(rows: Rows, count: int) -> Rows:
    """Return some of the rows, evenly spread from the first to the last; all where there are no more."""
    total = rows.table.num_rows
    if total <= count:
        return rows
    places = [round(number * (total - 1) / max(count - 1, 1)) for number in range(count)]
    return Rows(rows.inputs, rows.table.take(places))


def expected_of(table: Any) -> tuple[tuple[str, ...], tuple[tuple[Value, ...], ...]]:
    """Return the outputs that a golden file tells and each row's answers; raises Unfit where it tells none."""
    outputs = tuple(name.removeprefix(PREDICTION) for name in table.column_names if name.startswith(PREDICTION))
    if not outputs:
        raise Unfit(f"it has no column '{PREDICTION}<output>' with the answers (columns: {', '.join(table.column_names)})")
    columns = [_travelling(table.column(PREDICTION + output)) for output in outputs]
    return outputs, tuple(zip(*columns, strict=True))


def read_table(file: Path, called: str) -> Any:
    """Return a Parquet file as an Arrow table; raises InputError, which names it as `called`, for anything else."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as problem:
        raise InputError(called, f"is no Parquet file ({type(problem).__name__})", "Correct what fleet.yaml declares.") from problem


def example_of(model: Path) -> Any:
    """Return an MLflow model's saved input example as an Arrow table; raises Unfit where there is none in columns."""
    import pyarrow

    try:
        document = json.loads((model / EXAMPLE).read_bytes())
        columns, data = document["dataframe_split"]["columns"], document["dataframe_split"]["data"]
        return pyarrow.table({str(name): [row[place] for row in data] for place, name in enumerate(columns)})
    except (OSError, ValueError, KeyError, TypeError, IndexError, pyarrow.ArrowException) as problem:
        none = "there are no evaluation or training rows and no input example in columns"
        ways = "declare an evaluation or a file of answers, or log the model with input_example= a DataFrame"
        raise Unfit(f"{none} ({type(problem).__name__}): {ways}") from problem


def _name(column: Column) -> str:
    if column.tensor is not None or column.type not in TYPES or column.name is None:
        what = column.kind if column.name is None else f"'{column.name}' ({column.kind})"
        raise Unfit(f"the model's input {what} is no named column of plain values, which golden rows are made of")
    return column.name


def _arrow(column: Column) -> Any:
    import pyarrow

    kind = TYPES[column.type][0]
    return pyarrow.timestamp("ns") if kind.startswith("timestamp") else getattr(pyarrow, kind)()


def _may_miss(column: Column) -> bool:
    return column.type in REAL or (column.type == "string" and not column.needed)


def _travelling(column: Any) -> Sequence[Value]:
    import pyarrow

    if pyarrow.types.is_timestamp(column.type):
        moments = column.cast(pyarrow.timestamp("ns"))
        return [None if moment is None else moment.isoformat() for moment in moments.to_pylist()]
    if pyarrow.types.is_floating(column.type):
        values = [None if value is None or math.isnan(value) else _shortest(value, column.type) for value in column.to_pylist()]
        if any(value is not None and math.isinf(value) for value in values):
            raise Unfit("they hold an infinite number, which JSON cannot carry")
        return values
    return list(column.to_pylist())


def _shortest(value: float, kind: Any) -> float:
    """Return a number whose text is the shortest that its type reads back: 0.1 of 32 bits is not 0.10000000149."""
    import numpy
    import pyarrow

    narrow = {pyarrow.float32(): numpy.float32, pyarrow.float16(): numpy.float16}.get(kind)
    return value if narrow is None else float(str(narrow(value)))
