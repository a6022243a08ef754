"""Tensors of the Open Inference Protocol v2 in JSON, read into exactly the types that a model's signature names.

The protocol: https://github.com/kserve/open-inference-protocol. A column travels as a tensor of shape [n] or [n, 1].
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from .errors import BadRequest

MOST_DIMENSIONS = 8
DIGITS = frozenset("0123456789")
WHOLE, NUMBER, TRUTH, TEXT = "whole numbers", "numbers (null is a missing value)", "true and false", "strings"
DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
BY_DTYPE = {np.dtype(name): datatype for name, datatype in DATATYPES.items()}
KINDS: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), TRUTH),
    "i": (frozenset({int}), WHOLE),
    "u": (frozenset({int}), WHOLE),
    "f": (frozenset({int, float, type(None)}), NUMBER),
    "O": (frozenset({str}), TEXT),
}


class Text(StrEnum):
    """What the strings of a BYTES column stand for."""

    PLAIN = "text"
    MOMENT = "times in ISO 8601, taken as UTC"
    BINARY = "bytes in Base64"
    JSON = "values in JSON"


@dataclass(frozen=True, slots=True)
class Field:
    """One input as the signature names it.

    `tail` is its shape after the row dimension, -1 standing for any length; it is empty for a column. `text` matters
    for BYTES only.
    """

    name: str
    dtype: np.dtype[Any]
    required: bool = True
    tail: tuple[int, ...] = ()
    text: Text = Text.PLAIN

    @property
    def datatype(self) -> str:
        """The protocol's name of the type."""
        return BY_DTYPE.get(self.dtype, "BYTES")

    @property
    def allowed(self) -> str:
        """What the data may be, for people."""
        words = KINDS[self.dtype.kind][1]
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            return f"{words} from {limits.min} to {limits.max}"
        return words if self.text is Text.PLAIN else f"{words} ({self.text})"


def read(field: Field, tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return a tensor's values as an array of shape (n, *tail); raises BadRequest that names the column and what is allowed.

    `data` is a list, flat or nested, or a flat array that has the datatype's type already and that nobody else holds.
    """
    datatype = tensor.get("datatype")
    if datatype != field.datatype:
        raise BadRequest(f"column '{field.name}': the datatype must be {field.datatype}, not {datatype!r}")
    shape = _shape(field, tensor.get("shape"))
    data = tensor.get("data")
    values = data if isinstance(data, np.ndarray) else _flat(field, data, len(shape))
    if len(values) != math.prod(shape):
        raise BadRequest(f"column '{field.name}': the shape {shape} needs {math.prod(shape)} values, data has {len(values)}")
    array = _finite(field, values) if isinstance(values, np.ndarray) else _typed(field, values)
    return array if not field.tail and len(shape) == 1 else array.reshape(shape[:1] if not field.tail else shape)


def _shape(field: Field, shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or not shape:
        raise BadRequest(f"column '{field.name}': the shape must be a list of whole numbers")
    tail = tuple(shape[1:])
    fits = len(tail) == len(field.tail) and all(want in (-1, size) for want, size in zip(field.tail, tail, strict=True))
    if not fits and not (field.tail == () and tail == (1,)):
        allowed = f"[n, {', '.join(str(size) for size in field.tail)}]" if field.tail else "[n] or [n, 1]"
        raise BadRequest(f"column '{field.name}': the shape must be {allowed}, not {shape}")
    if shape[0] == 0:
        raise BadRequest(f"column '{field.name}': there must be at least one row")
    if 0 in shape:
        # any number of rows would do, and what answers them would have to be made
        raise BadRequest(f"column '{field.name}': no size of its shape may be 0, it is {shape}")
    return shape


def _flat(field: Field, data: Any, dimensions: int) -> list[Any]:
    if not isinstance(data, list):
        raise BadRequest(f"column '{field.name}': data must be a list of {field.allowed}")
    return flat(data, dimensions)


def flat(data: list[Any], dimensions: int) -> list[Any]:
    """Return a tensor's values in row-major order; the protocol allows them nested as well."""
    values = data
    for _ in range(min(dimensions, MOST_DIMENSIONS) - 1):
        if not values or not all(type(row) is list for row in values):
            break
        values = list(itertools.chain.from_iterable(values))
    return values


def _typed(field: Field, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    allowed = KINDS[field.dtype.kind][0]
    found = set(map(type, values))
    if not found <= allowed and not (field.dtype.kind == "O" and not field.required and found <= allowed | {type(None)}):
        at = next(index for index, value in enumerate(values) if type(value) not in allowed)
        raise BadRequest(f"column '{field.name}': data[{at}] is {_shown(values[at])}, allowed are {field.allowed}")
    if field.dtype.kind == "O":
        return _texts(field, values)
    try:
        array = np.array(values, dtype=field.dtype)
    except OverflowError as problem:
        raise BadRequest(f"column '{field.name}': a value does not fit, allowed are {field.allowed}") from problem
    return _finite(field, array)


def _finite(field: Field, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array of the field's type; raises BadRequest for what JSON could not have said."""
    if field.dtype.kind == "f" and np.isinf(array).any():
        raise BadRequest(f"column '{field.name}': a value does not fit into {field.datatype}")
    return array


def _texts(field: Field, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    try:
        if field.text is Text.MOMENT:
            import pandas as pd

            moments = pd.to_datetime(pd.Index(values, dtype=object), utc=True, format="ISO8601")
            if moments.hasnans and any(value is not None for value, none in zip(values, moments.isna(), strict=True) if none):
                # pandas takes an empty text, and some words, for a time that is missing
                raise ValueError("an empty text is no time")
            if not all(value is None or value.lstrip()[:1] in DIGITS for value in values):
                # nor are "now" and "today" times that a caller could be answered the same for again
                raise ValueError("a time begins with its year")
            return np.asarray(moments.tz_localize(None).to_numpy(dtype="datetime64[ns]"))
        decode = DECODERS.get(field.text)
        decoded = values if decode is None else [None if value is None else decode(value) for value in values]
    except (ValueError, binascii.Error, OverflowError) as problem:
        raise BadRequest(f"column '{field.name}': allowed are {field.allowed} ({problem})") from problem
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(decoded):
        array[index] = value
    return array


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _from_json(text: str) -> Any:
    return orjson.loads(text)


DECODERS: dict[Text, Callable[[str], Any]] = {Text.BINARY: _from_base64, Text.JSON: _from_json}
