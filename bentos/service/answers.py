"""What a model gave, as tensors of the Open Inference Protocol v2."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from .errors import ModelFailed
from .signature import Signature
from .tensors import BY_DTYPE, DATATYPES


class Form(StrEnum):
    """What a model answers with, which rows and columns of an answer are told by."""

    ARRAY = "an array, a row for each row of the input"
    FRAME = "a table of named columns"
    MAPPING = "arrays by name"


def form_of(prediction: Any) -> Form:
    """Return the form of what a model gave."""
    if hasattr(prediction, "columns"):
        return Form.FRAME
    if isinstance(prediction, dict):
        return Form.MAPPING
    rows = isinstance(prediction, list) and bool(prediction) and all(isinstance(row, dict) for row in prediction)
    return Form.FRAME if rows else Form.ARRAY


def tensors(signature: Signature, prediction: Any) -> list[dict[str, Any]]:
    """Return output tensors; raises ModelFailed for what the protocol cannot carry.

    A frame or mapping gives one tensor for each column. An array gives one tensor, (n, 2) as shape [n, 2]; where the
    signature names one column output for each column of the array, it gives one tensor for each of them.
    """
    return [_tensor(name, array) for name, array in _named(signature, prediction)]


def _named(signature: Signature, prediction: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    columns = getattr(prediction, "columns", None)
    if columns is not None:
        yield from ((str(name), prediction.iloc[:, at].to_numpy()) for at, name in enumerate(columns))
    elif isinstance(prediction, dict):
        yield from ((str(name), np.atleast_1d(_array(values))) for name, values in prediction.items())
    elif isinstance(prediction, list) and prediction and all(isinstance(row, dict) for row in prediction):
        names = dict.fromkeys(name for row in prediction for name in row)
        yield from ((str(name), _array([row.get(name) for row in prediction])) for name in names)
    else:
        array = np.atleast_1d(_array(prediction))
        names_ = [output.name for output in signature.outputs]
        if len(names_) > 1 and array.ndim == 2 and array.shape[1] == len(names_):
            yield from ((name, array[:, at]) for at, name in enumerate(names_))
        else:
            yield (names_[0] if len(names_) == 1 else "output"), array


def _array(values: Any) -> np.ndarray[Any, Any]:
    if hasattr(values, "toarray"):
        values = values.toarray()
    try:
        return np.asarray(values)
    except ValueError as problem:
        raise ModelFailed(f"the model's answer is not rectangular ({problem})") from problem


def _tensor(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    datatype = BY_DTYPE.get(array.dtype)
    # only then: a type's own name takes as long to be made as all the rest
    if datatype is None and (datatype := DATATYPES.get(array.dtype.name)) is not None:
        array = array.astype(array.dtype.newbyteorder("="))
    if datatype is None and array.dtype.kind == "M":
        missing = np.isnat(array)
        array = np.datetime_as_string(array, timezone="UTC").astype(object)
        array[missing] = None
    if datatype is None:
        data: Any = [_text(name, value) for value in array.ravel().tolist()]
    else:
        data = array.ravel()
    return {"name": name, "datatype": datatype or "BYTES", "shape": list(array.shape), "data": data}


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError as problem:
        raise ModelFailed(f"output '{name}' holds a {type(value).__name__}, which the protocol cannot carry") from problem
