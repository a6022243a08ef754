"""The first prediction, made before anybody waits for it: imports, caches and lazy initialisation are paid here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from .errors import BadRequest, ModelFailed, ModelUnusable, told
from .schema import Rows, joined
from .scorer import Scorer, parsed
from .settings import ServiceSettings
from .tensors import Field, Text

MOMENT = "1970-01-01T00:00:00Z"
WARM_ROWS = 1
ZEROS = "a row of zeros"


def warm(scorer: Scorer) -> str:
    """Make one prediction and return what it was made from.

    The model's own input example must be answered: raises ModelUnusable otherwise. Without an example a row of zeros
    is tried, which a model may refuse.
    """
    example = rows_of_example(scorer, WARM_ROWS)
    if example is not None:
        try:
            scorer.answer(example)
        except BadRequest as problem:
            return f"nothing (the input example does not fit the signature: {problem})"
        except ModelFailed as problem:
            raise ModelUnusable(f"the model fails on its own input example ({problem})") from problem
        return "the input example"
    if any(field.text is Text.JSON for field in scorer.signature.inputs):
        return "nothing (no input example, and the signature is nested)"
    try:
        scorer.answer(_zeros(scorer))
    except (ModelFailed, BadRequest) as problem:
        return f"{ZEROS}, which the model refused ({problem})"
    return ZEROS


def one_row(scorer: Scorer) -> Rows:
    """Return a row of zeros as the model's schema reads it."""
    return scorer.asked(parsed(_zeros(scorer))["inputs"]).rows


def most_rows(settings: ServiceSettings, one: Rows) -> int:
    """Return how many such rows one call has at most, since what waits is bounded in bytes too."""
    arrays = one.arrays.values() if one.block is None else (one.block,)
    return max(1, min(settings.batch_rows, settings.queue_bytes // max(1, sum(array.nbytes for array in arrays))))


def warm_sizes(scorer: Scorer, one: Rows, sizes: Iterable[int]) -> None:
    """Make a prediction with each number of rows: where kernels, graphs and memory are made for a size, no caller waits for them.

    Raises ModelUnusable for a number that the model does not answer.
    """
    for size in sizes:
        try:
            scorer.predictor.predict(joined([one] * size), {})
        except Exception as problem:
            raise ModelUnusable(f"the model does not answer {size} rows in one call ({told(problem)})") from problem


def rows_of_example(scorer: Scorer, rows: int) -> bytes | None:
    """Return the first rows of the saved input example as a request; None where there is none or it is not in columns."""
    try:
        example = scorer.pyfunc.input_example
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelUnusable(f"the input example cannot be read ({told(problem)})") from problem
    columns = getattr(example, "columns", None)
    if columns is None or not scorer.signature.frame:
        return None
    first = example.head(rows)
    by_name = {str(name): first.iloc[:, at].tolist() for at, name in enumerate(columns)}
    return _request([_tensor(field, by_name[field.name]) for field in scorer.signature.inputs if field.name in by_name])


def _tensor(field: Field, values: list[Any]) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.datatype, "shape": [len(values), *([1] * len(field.tail))], "data": values}


def _zero(field: Field) -> dict[str, Any]:
    tail = [1 if size == -1 else size for size in field.tail]
    value: Any = {"b": False, "f": 0.0, "O": MOMENT if field.text is Text.MOMENT else ""}.get(field.dtype.kind, 0)
    count = 1
    for size in tail:
        count *= size
    return {"name": field.name, "datatype": field.datatype, "shape": [1, *tail], "data": [value] * count}


def _zeros(scorer: Scorer) -> bytes:
    return _request([_zero(field) for field in scorer.signature.inputs])


def _request(tensors: list[dict[str, Any]]) -> bytes:
    return orjson.dumps({"inputs": tensors}, default=str)
