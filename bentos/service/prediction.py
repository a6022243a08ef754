"""What predicts: the model as MLflow wraps it, or as its own library answers; and what came out, taken apart by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .errors import BadRequest, told
from .schema import Rows
from .signature import Signature

PYFUNC = "mlflow pyfunc"
REFUSED = "SCHEMA_ENFORCEMENT_FAILED"
"""What MLflow calls rows that do not fit the signature: those of nested values are checked by it alone."""


class Predictor(Protocol):
    """Rows in, whatever the model answers out; it may raise anything.

    Parameters are those that the model's signature declares; one that declares any is asked through MLflow.

    `path` is for people. `together` says that rows of several requests may be scored in one call, `light` that a call is
    short and plain enough for the event loop itself.
    """

    @property
    def path(self) -> str:
        """How the model is reached."""

    @property
    def together(self) -> bool:
        """Whether rows of several requests may be scored in one call."""

    @property
    def light(self) -> bool:
        """Whether a call that is known to be short may be made in the event loop."""

    def predict(self, rows: Rows, params: Mapping[str, Any]) -> Any:
        """Return the model's answer."""


@dataclass(frozen=True, slots=True)
class Pyfunc:
    """The model's MLflow pyfunc, which checks the signature once more; its rows stand for themselves where `together` says so."""

    signature: Signature
    pyfunc: Any
    together: bool = False
    path: str = PYFUNC
    light: bool = False

    def predict(self, rows: Rows, params: Mapping[str, Any]) -> Any:
        """Ask the pyfunc; raises BadRequest for rows that MLflow finds not to fit the signature."""
        given = self._input(rows.arrays)
        try:
            return self.pyfunc.predict(given, params=dict(params)) if params else self.pyfunc.predict(given)
        except Exception as problem:
            if getattr(problem, "error_class", None) != REFUSED:
                raise
            # its own text repeats all rows
            raise BadRequest(f"a value does not fit the model's signature ({told(problem.__context__ or problem)})") from problem

    def _input(self, arrays: dict[str, Any]) -> Any:
        """Return what it takes: a frame of columns, a mapping of arrays or one array."""
        if self.signature.frame:
            import pandas as pd

            columns = arrays if self.signature.named else {int(name): array for name, array in arrays.items()}
            # the arrays are ours alone, so the frame need not copy them
            return pd.DataFrame(columns, copy=False)
        return arrays if self.signature.named else next(iter(arrays.values()))


@dataclass(frozen=True, slots=True)
class Direct:
    """The model's own library, asked with stacked rows."""

    path: str
    ask: Callable[[Any], Any]
    together: bool = True
    light: bool = True

    def predict(self, rows: Rows, params: Mapping[str, Any]) -> Any:
        """Ask the library with the rows' one array."""
        return self.ask(rows.block)


def parts(prediction: Any, counts: Sequence[int]) -> list[Any] | None:
    """Return what belongs to each of several requests with so many rows; None where the answer is not one row for each row."""
    total = sum(counts)
    if isinstance(prediction, dict):
        try:
            columns = {name: np.atleast_1d(values) for name, values in prediction.items()}
        except ValueError:  # lists of unequal lengths
            return None
        if any(len(values) != total for values in columns.values()):
            return None
        return [{name: values[part] for name, values in columns.items()} for part in _slices(counts)]
    if not hasattr(prediction, "__len__") or len(prediction) != total:
        return None
    sliced = prediction.iloc if hasattr(prediction, "iloc") else prediction
    return [sliced[part] for part in _slices(counts)]


def _slices(counts: Sequence[int]) -> Iterator[slice]:
    begin = 0
    for count in counts:
        yield slice(begin, begin + count)
        begin += count
