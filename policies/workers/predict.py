"""Loads a model and lets it predict; from the loading on, this process is the model's and is believed in nothing.

It is given no labels: what it hands back are predictions, and another process measures them.
"""

from __future__ import annotations

from typing import Any

from fleet.worker_channel import answer, receive
from policies.workers.messages import Predictions, PredictRequest


def main() -> None:
    """Answer one PredictRequest."""
    request = receive(PredictRequest)
    import mlflow.pyfunc
    import pandas

    rows = pandas.read_parquet(request.rows)
    model = mlflow.pyfunc.load_model(str(request.model))
    answer(Predictions(_plain(model.predict(rows))))


def _plain(predicted: Any) -> tuple[Any, ...]:
    """Turn a frame, a series, an array or a list into plain values: one per row, or one tuple per row."""
    import numpy

    values = numpy.asarray(predicted)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    return tuple(tuple(row) if isinstance(row, list) else row for row in values.tolist())


if __name__ == "__main__":
    main()
