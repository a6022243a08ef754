"""Computes a metric of predictions against the labels, in a process that never loads a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fleet.worker_channel import answer, receive
from policies.workers.messages import Measured, Measurements, MeasureRequest, Metric, Predictions
from policies.workers.scores import Unmeasurable, array_of, classes_of, one_number, positive_of, probabilities_of, read_labels

if TYPE_CHECKING:
    from policies.workers.scores import Values


def main() -> None:
    """Answer one MeasureRequest."""
    request = receive(MeasureRequest)
    labels, wrong = read_labels(request.rows, request.label, request.metric)
    if wrong:
        answer(Measurements((), wrong))
        return
    answer(Measurements(tuple(_measured(request.metric, labels, one) for one in request.models)))


def _measured(metric: Metric, labels: Values, predictions: Predictions) -> Measured:
    try:
        value = _METRICS[metric](labels, array_of(predictions, len(labels)))
        return Measured(value, "") if math.isfinite(value) else Measured(None, f"its {metric} is not a finite number")
    except Unmeasurable as problem:
        return Measured(None, str(problem))


def _roc_auc(labels: Values, values: Values) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, positive_of(values)))


def _log_loss(labels: Values, values: Values) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(labels, probabilities_of(values, "log_loss"), labels=[0, 1]))


def _accuracy(labels: Values, values: Values) -> float:
    """Share of right classes."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, classes_of(values, labels)))


def _mean_absolute_error(labels: Values, values: Values) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(labels, one_number(values)))


_METRICS: dict[Metric, Callable[[Values, Values], float]] = {
    "roc_auc": _roc_auc,
    "accuracy": _accuracy,
    "log_loss": _log_loss,
    "mean_absolute_error": _mean_absolute_error,
}


if __name__ == "__main__":
    main()
