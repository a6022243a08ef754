"""How rows are disturbed: what is done to which column, by chance, and the same again from the same seed."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from policies.workers.disturbed import Disturbance

MOST_KNOWN = 100_000
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """An input column: numpy's kind and type, and what its values are like (a number's range and standard deviation)."""

    name: str
    dtype: np.dtype[Any]
    plain: bool
    required: bool
    values: frozenset[Any]
    low: float = 0.0
    high: float = 0.0
    deviation: float = 0.0

    @property
    def number(self) -> bool:
        """Whether it holds numbers."""
        return self.dtype.kind in "iuf"

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers."""
        return self.dtype.kind in "iu"

    def at(self, value: float) -> Any:
        """Return a number as this column's type can hold it."""
        if not self.whole:
            most = float(np.finfo(self.dtype).max)
            return float(max(-most, min(most, value)))
        ends = np.iinfo(self.dtype)
        return max(int(ends.min), min(int(ends.max), round(value)))

    @property
    def ends(self) -> tuple[Any, Any]:
        """The smallest and the largest number that its type holds."""
        about = np.iinfo(self.dtype) if self.whole else np.finfo(self.dtype)
        return (int(about.min), int(about.max)) if self.whole else (float(about.min), float(about.max))


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to which column of which row (by its place in the scene), and the row that came of it."""

    what: str
    column: str
    origin: int
    row: Row


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to disturb: the columns, and rows of them."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def numbers(self, disturbance: Disturbance | Any) -> dict[str, float]:
        """Return by how much each number may move, in its own unit; what would not move is left out."""
        found = {}
        for column in self.columns:
            if column.number:
                amount = disturbance.columns.get(column.name, disturbance.strength * column.deviation)
                if amount > 0 and (amount >= 0.5 or not column.whole):
                    found[column.name] = float(amount)
        return found


def scene(fields: Sequence[Any], frame: Any, count: int, random: np.random.Generator) -> Scene:
    """Return the columns of a frame that the service's fields name, and `count` of its rows as requests carry them."""
    present = [field for field in fields if field.name in frame.columns]
    columns = tuple(_column(field, frame[field.name]) for field in present)
    chosen = np.sort(random.permutation(len(frame))[:count])
    drawn = {field.name: [_plain(field, value) for value in frame[field.name].iloc[chosen].tolist()] for field in present}
    return Scene(columns, tuple({name: values[at] for name, values in drawn.items()} for at in range(len(chosen))))


def _column(field: Any, values: Any) -> Column:
    known = values.dropna()
    plain = str(getattr(field.text, "value", field.text)) == "text"
    hashable = known.head(MOST_KNOWN) if field.dtype.kind in "iufbO" and plain else known.head(0)
    distinct = frozenset(hashable.unique().tolist())
    if field.dtype.kind not in "iuf" or known.empty:
        return Column(field.name, field.dtype, plain, field.required, distinct)
    numbers = known.astype(float)
    deviation = float(numbers.std()) if len(numbers) > 1 else 0.0
    return Column(field.name, field.dtype, plain, field.required, distinct, float(numbers.min()), float(numbers.max()), deviation)


def _plain(field: Any, value: Any) -> Any:
    """Return a value as the protocol carries it."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "NaT":
        return None
    kind, text = field.dtype.kind, str(getattr(field.text, "value", field.text))
    if kind in "iu":
        return int(value)
    if kind in "fb":
        return {"f": float, "b": bool}[kind](value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if text == "text" else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def noise(found: Scene, asked: Disturbance, random: np.random.Generator) -> Iterator[Change]:
    """Move every number by a normal amount."""
    amounts = found.numbers(asked)
    by_name = {column.name: column for column in found.columns}
    for at, row in enumerate(found.rows if amounts else ()):
        moved = {name: by_name[name].at(row[name] + amount * random.normal()) for name, amount in amounts.items() if row[name] is not None}
        yield Change("moved", ", ".join(moved) if len(moved) < 4 else f"{len(moved)} columns", at, row | moved)


def missing(found: Scene, asked: Disturbance, random: np.random.Generator) -> Iterator[Change]:
    """Take one value of each row away."""
    for at, row, column in _one_each(found, found.columns, random):
        yield Change("taken away", column.name, at, row | {column.name: None})


def unseen(found: Scene, asked: Disturbance, random: np.random.Generator) -> Iterator[Change]:
    """Give one category of each row a value that no row has."""
    categories = [column for column in found.columns if _category(column, asked.most_values)]
    for at, row, column in _one_each(found, categories, random):
        beyond = int(random.integers(1, 10))
        value = column.at(column.high + beyond) if column.whole else f"never seen {beyond}"
        if value not in column.values:
            yield Change("never seen", column.name, at, row | {column.name: value})


def _category(column: Column, most: int) -> bool:
    return (column.dtype.kind == "O" and column.plain) or (column.whole and 0 < len(column.values) <= most)


def out_of_range(found: Scene, asked: Disturbance, random: np.random.Generator) -> Iterator[Change]:
    """Set one number of each row far outside of what its column holds, or at the end of its type."""
    for at, row, column in _one_each(found, [column for column in found.columns if column.number], random):
        reach = asked.strength * max(column.high - column.low, 1.0)
        far = (column.at(column.low - reach), column.at(column.high + reach), *column.ends)
        yield Change("far outside", column.name, at, row | {column.name: far[int(random.integers(len(far)))]})


def _one_each(found: Scene, columns: Sequence[Column], random: np.random.Generator) -> Iterator[tuple[int, Row, Column]]:
    for at, row in enumerate(found.rows if columns else ()):
        yield at, row, columns[int(random.integers(len(columns)))]


DISTURBING: Mapping[str, Callable[[Scene, Disturbance, np.random.Generator], Iterator[Change]]] = {
    "noise": noise,
    "missing": missing,
    "unseen": unseen,
    "out of range": out_of_range,
}


def wrong_bodies(requests: Sequence[dict[str, Any]], random: np.random.Generator) -> Iterator[tuple[str, str, bytes]]:
    """Return what is wrong, in which column, and the bytes: each request wrong in another way, in turn."""
    for number, request in enumerate(requests):
        what, make = WRONG[number % len(WRONG)]
        at = int(random.integers(len(request["inputs"])))
        tensors = [dict(tensor) for tensor in request["inputs"]]
        body = make(tensors, at)
        yield what, str(request["inputs"][at]["name"]), body


def _with(**changed: Any) -> Callable[[list[dict[str, Any]], int], bytes]:
    def make(tensors: list[dict[str, Any]], at: int) -> bytes:
        tensors[at] |= changed
        return _body(tensors)

    return make


def _body(inputs: Any) -> bytes:
    return orjson.dumps({"inputs": inputs})


def _raw(text: bytes) -> Callable[[list[dict[str, Any]], int], bytes]:
    def make(tensors: list[dict[str, Any]], at: int) -> bytes:
        tensors[at] |= {"data": ["@"]}
        return _body(tensors).replace(b'"@"', text)

    return make


WRONG: tuple[tuple[str, Callable[[list[dict[str, Any]], int], bytes]], ...] = (
    ("a text", _with(data=["wrong"])),
    ("a number", _with(data=[12345.678])),
    ("true", _with(data=[True])),
    ("a list", _with(data=[[1, 2, 3]])),
    ("an object", _with(data=[{"a": 1}])),
    ("null for the data", _with(data=None)),
    ("no data", _with(data=[])),
    ("a shape of two rows", _with(shape=[2])),
    ("a shape below zero", _with(shape=[-1])),
    ("a datatype that is none", _with(datatype="FP7")),
    ("another datatype", _with(datatype="BYTES", data=["1"])),
    ("NaN", _raw(b"NaN")),
    ("a number that no type holds", _raw(b"1e400")),
    ("an endless whole number", _raw(b"9" * 400)),
    ("a column less", lambda tensors, at: _body(tensors[:at] + tensors[at + 1 :])),
    ("a column twice", lambda tensors, at: _body([*tensors, tensors[at]])),
    ("a column that is none", lambda tensors, at: _body([*tensors, tensors[at] | {"name": "no such column"}])),
    ("no list of columns", lambda tensors, at: _body({"name": tensors[at]["name"]})),
    ("broken JSON", lambda tensors, at: _body(tensors)[:-5]),
    ("nothing", lambda tensors, at: b""),
)
