"""Computes a metric of predictions against the labels, in a process that never loads a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from policies.workers.channel import answer, receive
from policies.workers.messages import Measured, Measurements, MeasureRequest, Metric, Predictions

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    Values = NDArray[numpy.generic]

PROBABILITIES = "log the model with probabilities (for sklearn: pyfunc_predict_fn='predict_proba')"


class Unmeasurable(Exception):
    """These predictions have no such metric, for the reason given."""


def main() -> None:
    """Answer one MeasureRequest."""
    request = receive(MeasureRequest)
    labels, wrong = _labels(request)
    if wrong:
        answer(Measurements((), wrong))
        return
    answer(Measurements(tuple(_measured(request.metric, labels, one) for one in request.models)))


def _labels(request: MeasureRequest) -> tuple[Values, str]:
    """Return the label column, and what makes it useless for the metric, if anything."""
    import pandas

    column = pandas.read_parquet(request.rows, columns=[request.label])[request.label]
    wrong = ""
    if column.empty:
        wrong = "there are no rows"
    elif column.isna().any():
        wrong = f"the label '{request.label}' is empty in {int(column.isna().sum())} rows"
    elif request.metric in ("roc_auc", "log_loss") and set(column.unique()) != {0, 1}:
        wrong = f"{request.metric} needs both labels, 0 and 1, in '{request.label}'"
    elif request.metric == "mean_absolute_error" and not pandas.api.types.is_numeric_dtype(column):
        wrong = f"mean_absolute_error needs numbers in '{request.label}'"
    if pandas.api.types.is_bool_dtype(column):
        column = column.astype(int)
    return column.to_numpy(), wrong


def _measured(metric: Metric, labels: Values, predictions: Predictions) -> Measured:
    try:
        value = _METRICS[metric](labels, _array(predictions, len(labels)))
        return Measured(value, "") if math.isfinite(value) else Measured(None, f"its {metric} is not a finite number")
    except Unmeasurable as problem:
        return Measured(None, str(problem))


def _array(predictions: Predictions, rows: int) -> Values:
    """Return the predictions as an array of shape (rows,) or (rows, classes), all finite."""
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


def _numbers(values: Values) -> Any:
    if values.dtype.kind not in "fi":
        raise Unmeasurable("its predictions are not numbers")
    return values


def _positive(values: Values) -> Any:
    """Return the score of class 1: the values themselves, or the second of two columns."""
    numbers = _numbers(values)
    if numbers.ndim == 1:
        return numbers
    if numbers.shape[1] != 2:
        raise Unmeasurable(f"it gives {numbers.shape[1]} numbers per row where one or two are wanted")
    return numbers[:, 1]


def _roc_auc(labels: Values, values: Values) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, _positive(values)))


def _log_loss(labels: Values, values: Values) -> float:
    from sklearn.metrics import log_loss

    scores = _positive(values)
    if scores.dtype.kind != "f" or scores.min() < 0 or scores.max() > 1:
        raise Unmeasurable(f"log_loss needs probabilities between 0 and 1; {PROBABILITIES}")
    return float(log_loss(labels, scores, labels=[0, 1]))


def _accuracy(labels: Values, values: Values) -> float:
    """Share of right classes; probabilities choose class 1 from 0.5 on, of several columns the greatest."""
    from sklearn.metrics import accuracy_score

    if values.ndim == 2:
        values = _numbers(values).argmax(axis=1)
    elif values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        values = (_numbers(values) >= 0.5).astype(int)
    if (values.dtype.kind in "fi") != (labels.dtype.kind in "fiu"):
        raise Unmeasurable("its predictions and the labels are not of the same kind (numbers or texts)")
    return float(accuracy_score(labels, values))


def _mean_absolute_error(labels: Values, values: Values) -> float:
    from sklearn.metrics import mean_absolute_error

    if values.ndim != 1:
        raise Unmeasurable("mean_absolute_error needs one number per row")
    return float(mean_absolute_error(labels, _numbers(values)))


_METRICS: dict[Metric, Callable[[Values, Values], float]] = {
    "roc_auc": _roc_auc,
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "mean_absolute_error": _mean_absolute_error,
}


if __name__ == "__main__":
    main()
