"""Requests read into rows, by a schema that is compiled once from the model's signature.

A model that takes one array gets its rows stacked: all columns in one array of shape (n, columns), in the type that holds
each column's type exactly as NumPy promotes them. What is read so in one go is only what is certainly right; anything else is
read once more column by column, which names what is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import BadRequest
from .signature import Signature
from .tensors import KINDS, Field, Text, read

NAMED = 50
Array = np.ndarray[Any, Any]
Given = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one or more requests: one array for each column that was given or, stacked, `block` with all of them."""

    count: int
    arrays: dict[str, Array]
    block: Array | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What rows must have in common to be scored in one call."""
        if self.block is not None:
            return tuple(self.block.shape[1:])
        return tuple((name, array.dtype.str, array.shape[1:]) for name, array in self.arrays.items())

    def one(self, at: int) -> Rows:
        """Return one of the rows."""
        block = None if self.block is None else self.block[at : at + 1]
        return Rows(1, {name: array[at : at + 1] for name, array in self.arrays.items()}, block)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return rows of one shape as one."""
    if len(parts) == 1:
        return parts[0]
    count = sum(part.count for part in parts)
    blocks = [part.block for part in parts if part.block is not None]
    if blocks:
        return Rows(count, {}, np.concatenate(blocks))
    return Rows(count, {name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays})


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of one type, by their places in the signature."""

    dtype: np.dtype[Any]
    places: tuple[int, ...]

    @property
    def allowed(self) -> frozenset[type]:
        """What JSON may hold for the type."""
        return KINDS[self.dtype.kind][0]


def stackable(signature: Signature) -> str:
    """Return why a model's rows cannot be one array, nothing where they can."""
    fields = signature.inputs
    if not signature.frame:
        return "" if not signature.named and len(fields) == 1 and fields[0].dtype.kind in "iufb" else "it takes several named arrays"
    for field in fields:
        if field.dtype.kind not in "iufb" or field.text is not Text.PLAIN:
            return f"column '{field.name}' is no number"
        if not field.required:
            return f"column '{field.name}' may be left out"
    return ""


class Schema:
    """Reads the tensors of a request; `refuses` names the columns of which no value may be missing, though their type allows it."""

    def __init__(self, signature: Signature, stacked: bool = False, refuses: Collection[str] = ()) -> None:
        self.signature = signature
        self.refuses = frozenset(refuses)
        self._stacked = stacked
        self._fields = signature.by_name
        self._required = tuple(field.name for field in signature.inputs if field.required)
        self._columns = {field.name: (place, field.datatype) for place, field in enumerate(signature.inputs)}
        self._real = tuple(field.name for field in signature.inputs if field.dtype.kind == "f")
        self._quick = stacked and signature.frame
        types = [field.dtype for field in signature.inputs]
        self._dtype = np.result_type(*types) if stacked else np.dtype(object)
        self._groups = tuple(Group(kind, _places(types, kind)) for kind in dict.fromkeys(types)) if self._quick else ()

    def rows(self, inputs: Any) -> Rows:
        """Return a request's rows; raises BadRequest that names the column and what is allowed."""
        if self._stacked:
            block = self._block(inputs) if self._quick else self._only(inputs)
            if block is not None:
                return Rows(len(block), {}, block)
        arrays = self._arrays(inputs)
        rows = Rows(len(next(iter(arrays.values()))), arrays)
        return self.stacked(rows) if self._stacked else rows

    def stacked(self, rows: Rows) -> Rows:
        """Return rows with all columns in one array."""
        if not self.signature.frame:
            return Rows(rows.count, {}, next(iter(rows.arrays.values())))
        block = np.empty((rows.count, len(self._columns)), dtype=self._dtype)
        for name, array in rows.arrays.items():
            block[:, self._columns[name][0]] = array
        return Rows(rows.count, {}, block)

    def missing(self, rows: Rows) -> tuple[str, ...]:
        """Return the names of real columns in which a value is missing."""
        if rows.block is None:
            return tuple(name for name in self._real if name in rows.arrays and np.isnan(rows.arrays[name]).any())
        if rows.block.dtype.kind != "f":
            return ()
        if not self.signature.frame:
            return self._real if np.isnan(rows.block).any() else ()
        return tuple(name for name in self._real if np.isnan(rows.block[:, self._columns[name][0]]).any())

    def filled(self, rows: Rows) -> Rows:
        """Return rows with zero wherever a value is missing."""
        if rows.block is not None:
            return replace(rows, block=np.nan_to_num(rows.block, nan=0.0))
        filled = {name: np.nan_to_num(array, nan=0.0) if name in self._real else array for name, array in rows.arrays.items()}
        return replace(rows, arrays=filled)

    def _block(self, inputs: Any) -> Array | None:
        """Return all columns in one array, None for whatever must be looked at closely."""
        columns, datas = self._columns, [None] * len(self._columns)
        try:
            shape = inputs[0]["shape"]
            if len(inputs) != len(datas):
                return None
            for tensor in inputs:
                place, datatype = columns[tensor["name"]]
                if tensor["datatype"] != datatype or tensor["shape"] != shape:
                    return None
                datas[place] = tensor["data"]
            rows = shape[0]
            if type(rows) is not int or rows < 1 or shape[1:] not in ([], [1]) or any(len(data) != rows for data in datas):  # type: ignore[arg-type]
                return None
            return self._filled(datas, rows)
        except (KeyError, TypeError, IndexError, ValueError, OverflowError):
            return None

    def _only(self, inputs: Any) -> Array | None:
        """Return the one array that the model takes, None for whatever must be looked at closely."""
        (field,) = self.signature.inputs
        try:
            (tensor,) = inputs
            shape, values = tensor["shape"], tensor["data"]
            if tensor["name"] != field.name or tensor["datatype"] != field.datatype or type(values) is not list:
                return None
            if len(shape) != 1 + len(field.tail):
                return None
            for want, size in zip((-1, *field.tail), shape, strict=True):
                if type(size) is not int or size < 1 or want not in (-1, size):
                    return None
            found = set(map(type, values))
            if not found <= KINDS[field.dtype.kind][0] or (self.refuses and type(None) in found):
                return None
            array = np.array(values, dtype=field.dtype)
            return None if _infinite(array) else array.reshape(shape)
        except (KeyError, TypeError, IndexError, ValueError, OverflowError):
            return None

    def _filled(self, datas: list[Any], rows: int) -> Array | None:
        block = np.empty((rows, len(datas)), dtype=self._dtype)
        for group in self._groups:
            values = list(itertools.chain.from_iterable([datas[place] for place in group.places]))
            found = set(map(type, values))
            if not found <= group.allowed or (self.refuses and type(None) in found):
                return None
            array = np.array(values, dtype=group.dtype)
            if _infinite(array):
                return None
            if len(group.places) == len(datas):
                return np.ascontiguousarray(array.reshape(len(datas), rows).T)
            block[:, group.places] = array.reshape(len(group.places), rows).T
        return block

    def _arrays(self, inputs: Any) -> dict[str, Array]:
        """Return the request's arrays in the signature's order, all of one length."""
        given = _by_name(inputs)
        self._all_known(given)
        for name in self.refuses & given.keys():
            self._none_missing(self._fields[name], given[name])
        arrays = {name: read(field, given[name]) for name, field in self._fields.items() if name in given}
        lengths = {name: len(array) for name, array in arrays.items()}
        first, rows = next(iter(lengths.items()))
        for name, length in lengths.items():
            if length != rows:
                raise BadRequest(f"column '{name}' has {length} rows, column '{first}' has {rows}: all must have the same number")
        return arrays

    def _all_known(self, given: Given) -> None:
        unknown = [name for name in given if name not in self._fields]
        if unknown:
            raise BadRequest(f"unknown column{plural(unknown)} {listed(unknown)} (known: {listed(self._fields)})")
        missing = [name for name in self._required if name not in given]
        if missing:
            raise BadRequest(f"missing column{plural(missing)} {listed(missing)} (known: {listed(self._fields)})")

    def _none_missing(self, field: Field, tensor: dict[str, Any]) -> None:
        array = read(field, tensor)
        gone = np.isnan(array.reshape(len(array), -1)).any(axis=1)
        if gone.any():
            where = f"column '{field.name}': row {int(gone.argmax())}"
            raise BadRequest(f"{where} has null, and this model takes no missing value there: send a number")


def _infinite(array: Array) -> bool:
    # counting takes half of the time of `any`
    return array.dtype.kind == "f" and bool(np.count_nonzero(np.isinf(array)))


def _places(types: Iterable[np.dtype[Any]], kind: np.dtype[Any]) -> tuple[int, ...]:
    return tuple(place for place, dtype in enumerate(types) if dtype == kind)


def _by_name(inputs: Any) -> Given:
    if not isinstance(inputs, list) or not inputs or not all(isinstance(tensor, dict) for tensor in inputs):
        raise BadRequest('"inputs" must be a list of tensors, one for each column')
    given: Given = {}
    for at, tensor in enumerate(inputs):
        name = tensor.get("name")
        if not isinstance(name, str):
            raise BadRequest(f"inputs[{at}] has no name")
        if name in given:
            raise BadRequest(f"column '{name}' is given twice")
        given[name] = tensor
    return given


def listed(names: Collection[str]) -> str:
    """Return names for people, the first fifty of them."""
    shown = [f"'{name[:100]}'" for name in itertools.islice(names, NAMED)]
    return ", ".join(shown) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def plural(names: Collection[str]) -> str:
    """Return the ending of a noun for so many names."""
    return "s" if len(names) > 1 else ""
