"""Labels and predictions as arrays that can be measured, in a process that never loads a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.workers.messages import Metric, Predictions

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Values = NDArray[numpy.generic]

PROBABILITIES = "log the model with probabilities (for sklearn: pyfunc_predict_fn='predict_proba')"


class Unmeasurable(Exception):
    """These predictions have no such metric, for the reason given."""


def read_labels(rows: Path, label: str, metric: Metric) -> tuple[Values, str]:
    """Return the label column, and what makes it useless for the metric, if anything."""
    import pandas

    column = pandas.read_parquet(rows, columns=[label])[label]
    wrong = ""
    if column.empty:
        wrong = "there are no rows"
    elif column.isna().any():
        wrong = f"the label '{label}' is empty in {int(column.isna().sum())} rows"
    elif metric in ("roc_auc", "log_loss") and set(column.unique()) != {0, 1}:
        wrong = f"{metric} needs both labels, 0 and 1, in '{label}'"
    elif metric == "mean_absolute_error" and not pandas.api.types.is_numeric_dtype(column):
        wrong = f"mean_absolute_error needs numbers in '{label}'"
    if pandas.api.types.is_bool_dtype(column):
        column = column.astype(int)
    return column.to_numpy(), wrong


def array_of(predictions: Predictions, rows: int) -> Values:
    """Return the predictions as an array of shape (rows,) or (rows, classes), all finite; raises Unmeasurable."""
    import numpy

    if len(predictions.values) != rows:
        raise Unmeasurable(f"it gave {len(predictions.values)} predictions for {rows} rows")
    widths = {len(value) if isinstance(value, tuple) else 0 for value in predictions.values}
    if len(widths) != 1:
        raise Unmeasurable("its predictions have different lengths from row to row")
    values = numpy.asarray(predictions.values)
    if values.dtype.kind == "b":
        values = values.astype(int)
    if values.dtype.kind in "fi" and not numpy.isfinite(values).all():
        raise Unmeasurable(f"{int((~numpy.isfinite(values)).sum())} of its predictions are not finite numbers")
    return values


def numbers_of(values: Values) -> Any:
    """Return predictions that are numbers; raises Unmeasurable for others."""
    if values.dtype.kind not in "fi":
        raise Unmeasurable("its predictions are not numbers")
    return values


def one_number(values: Values) -> Any:
    """Return predictions of one number a row; raises Unmeasurable for others."""
    if values.ndim != 1:
        raise Unmeasurable("mean_absolute_error needs one number per row")
    return numbers_of(values)


def positive_of(values: Values) -> Any:
    """Return the score of class 1: the values themselves, or the second of two columns; raises Unmeasurable."""
    numbers = numbers_of(values)
    if numbers.ndim == 1:
        return numbers
    if numbers.shape[1] != 2:
        raise Unmeasurable(f"it gives {numbers.shape[1]} numbers per row where one or two are wanted")
    return numbers[:, 1]


def probabilities_of(values: Values, what: str) -> Any:
    """Return the probability of class 1; raises Unmeasurable with what needs it where there is none."""
    scores = positive_of(values)
    if scores.dtype.kind != "f" or scores.min() < 0 or scores.max() > 1:
        raise Unmeasurable(f"{what} needs probabilities between 0 and 1; {PROBABILITIES}")
    return scores


def classes_of(values: Values, labels: Values) -> Any:
    """Return the chosen classes: probabilities choose class 1 from 0.5 on, of several columns the greatest.

    A column is told by its place alone, so it means a label only where the labels are 0, 1, 2 and so on. Raises Unmeasurable.
    """
    if values.ndim == 2:
        _check_places(labels, values.shape[1])
        values = numbers_of(values).argmax(axis=1)
    elif values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        _check_places(labels, 2)
        values = (numbers_of(values) >= 0.5).astype(int)
    if (values.dtype.kind in "fi") != (labels.dtype.kind in "fiu"):
        raise Unmeasurable("its predictions and the labels are not of the same kind (numbers or texts)")
    return values


def _check_places(labels: Values, columns: int) -> None:
    """Raise Unmeasurable where a label is no column's place: which column stands for it, nobody says."""
    if not set(labels.tolist()) <= set(range(columns)):
        raise Unmeasurable(f"it gives a number per class, and the labels are not 0 to {columns - 1}: log it so that it gives classes")
