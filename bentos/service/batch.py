"""Answered requests as one Parquet table: a column for each flat input, one for each prediction, and who answered when.

convoy.answered_at      when the answer was complete, in UTC
convoy.request_id       the caller's id of the request, the same for all of its rows
convoy.revision         the digest that answered
<input>                 as the model's signature names and types it; null where it was not given
prediction.<output>     as it was answered; an output of shape [n, k] gives prediction.<output>.0 to .<k-1>
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .signature import Signature
from .tensors import Field, Text, flat

ANSWERED_AT = "convoy.answered_at"
REQUEST_ID = "convoy.request_id"
REVISION = "convoy.revision"
PREDICTION = "prediction."
OURS = ("convoy.", PREDICTION)
WIDEST = 32
"""An output with more numbers a row than this (an image, an embedding) is no column."""
NO_COLUMN = (Text.BINARY, Text.JSON)
ARROW = {"BOOL": "bool", "BYTES": "string"}
"""Arrow's names of the protocol's types; whole numbers have the same name in lower case."""
REAL: dict[str, type[np.floating[Any]]] = {"FP16": np.float32, "FP32": np.float32, "FP64": np.float64}
"""The types of real numbers are read as the scorer reads them, by NumPy: it rounds; null is NaN, and null again in the file."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answered request: when (Unix nanoseconds), its id, and both bodies as they travelled, which nobody changes."""

    at: int
    request_id: bytes
    body: bytes
    answer: bytes

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory."""
        return len(self.body) + len(self.answer)


def flat_fields(signature: Signature) -> tuple[Field, ...]:
    """Return the inputs that are columns of plain values under a name of their own."""
    return tuple(field for field in signature.inputs if not field.tail and field.text not in NO_COLUMN and not field.name.startswith(OURS))


class Batch:
    """Rows of several requests; what a request does not have is null in its rows. `answers` counts the requests."""

    def __init__(self, fields: Iterable[Field], revision: str) -> None:
        self._fields = {field.name: field for field in fields}
        self._revision = revision
        self._columns: dict[str, list[Any]] = {name: [] for name in self._fields}
        self._types = {name: field.datatype for name, field in self._fields.items()}
        self.answers = 0
        self._at: list[int] = []
        self._ids: list[str] = []

    @property
    def rows(self) -> int:
        """Rows so far."""
        return len(self._at)

    def add(self, answered: Answered) -> None:
        """Take the rows of one request that was answered, so both bodies are as the protocol wants them."""
        tensors = {tensor["name"]: tensor for tensor in orjson.loads(answered.body)["inputs"]}
        rows = int(next(iter(tensors.values()))["shape"][0])
        given = {name: flat(tensors[name]["data"], len(tensors[name]["shape"])) for name in self._fields if name in tensors}
        for name, datatype, values in _predictions(orjson.loads(answered.answer)["outputs"], rows):
            given[name] = values
            self._types[name] = _wider(self._types.get(name, datatype), datatype)
            self._columns.setdefault(name, [None] * self.rows)
        for name, column in self._columns.items():
            column.extend(given.get(name) or [None] * rows)
        self._at.extend([answered.at] * rows)
        self._ids.extend([answered.request_id.decode("latin-1")] * rows)
        self.answers += 1

    def table(self, metadata: dict[str, str]) -> Any:
        """Return the rows as a `pyarrow.Table` with the metadata in its schema."""
        import pyarrow as pa

        moment = pa.timestamp("ns", "UTC")
        columns = {
            ANSWERED_AT: pa.array(self._at, pa.int64()).cast(moment),
            REQUEST_ID: pa.array(self._ids, pa.string()),
            REVISION: pa.array([self._revision] * self.rows, pa.string()),
        }
        columns |= {name: self._array(name, values) for name, values in self._columns.items()}
        return pa.table(columns).replace_schema_metadata(metadata)

    def _array(self, name: str, values: list[Any]) -> Any:
        import pyarrow as pa

        field, datatype = self._fields.get(name), self._types[name]
        if field is not None and field.text is Text.MOMENT:
            import pandas as pd

            moments = pd.to_datetime(pd.Series(values, dtype=object), utc=True, format="ISO8601")
            return pa.array(moments, pa.timestamp("ns", "UTC"))
        if datatype == "BYTES":
            return pa.array([None if value is None else str(value) for value in values], pa.string())
        if datatype in REAL:
            # JSON writes a real number without a fraction as a whole one, and Arrow refuses those that the type must round
            return pa.array(np.array(values, dtype=REAL[datatype]), from_pandas=True)
        return pa.array(values, pa.type_for_alias(ARROW.get(datatype, datatype.lower())))


def _predictions(outputs: list[dict[str, Any]], rows: int) -> Iterator[tuple[str, str, list[Any]]]:
    """Yield name, datatype and values of every prediction that has a value for each row."""
    for tensor in outputs:
        name, shape, data = PREDICTION + tensor["name"], tensor["shape"], tensor["data"]
        wide = math.prod(shape[1:])
        if shape[0] != rows or not 1 <= wide <= WIDEST:
            continue
        if len(shape) == 1:
            yield name, tensor["datatype"], data
        else:
            yield from ((f"{name}.{at}", tensor["datatype"], data[at::wide]) for at in range(wide))


def _wider(before: str, now: str) -> str:
    """Return a type that holds both: models that answer with plain lists may change it from one answer to the next."""
    if before == now:
        return now
    return "BYTES" if "BYTES" in (before, now) else "FP64"
