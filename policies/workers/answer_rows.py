"""Loads a model and lets it answer rows one by one, told as the service tells them; believed in nothing.

What the service makes of an answer stands in bentos/service/answers.py; it is done alike here, so that what the model
says in the sandbox can be held against what a region's server answers.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

from fleet.worker_channel import answer, receive
from policies.workers.messages import AnswerRequest, RowAnswers

WIDEST = 1000


def main() -> None:
    """Answer one AnswerRequest."""
    request = receive(AnswerRequest)
    import mlflow.pyfunc
    import pandas

    rows = pandas.read_parquet(request.rows)
    model = mlflow.pyfunc.load_model(str(request.model))
    schema = model.metadata.get_output_schema()
    names = [str(spec.name or ("output" if at == 0 else f"output-{at}")) for at, spec in enumerate(schema.inputs if schema else ())]
    times = []
    for _ in range(request.times):
        given = [_told(model.predict(rows.iloc[[at]].reset_index(drop=True)), names) for at in range(len(rows))]
        times.append(given)
    known = tuple(times[0][0])
    if any(tuple(row) != known for given in times for row in given):
        raise SystemExit("it gives other outputs from row to row")
    answer(RowAnswers(known, tuple(tuple(tuple(row.values()) for row in given) for given in times)))


def _told(predicted: Any, names: list[str]) -> dict[str, Any]:
    """Return one row's values by output, and by place behind it where an output has more dimensions."""
    found: dict[str, Any] = {}
    for name, array in _named(predicted, names):
        if array.size > WIDEST:
            raise SystemExit(f"its output '{name}' has {array.size} values a row, and {WIDEST} are the most that are compared")
        values = [_value(value) for value in array.reshape(-1)]
        flat = array.ndim == 1 and len(values) == 1
        found |= {name: values[0]} if flat else {f"{name}.{place}": value for place, value in enumerate(values)}
    return found


def _named(predicted: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    import numpy

    columns = getattr(predicted, "columns", None)
    if columns is not None:
        yield from ((str(name), predicted.iloc[:, at].to_numpy()) for at, name in enumerate(columns))
    elif isinstance(predicted, dict):
        yield from ((str(name), numpy.atleast_1d(numpy.asarray(values))) for name, values in predicted.items())
    elif isinstance(predicted, list) and predicted and all(isinstance(row, dict) for row in predicted):
        for name in dict.fromkeys(name for row in predicted for name in row):
            yield str(name), numpy.asarray([row.get(name) for row in predicted])
    else:
        dense = predicted.toarray() if hasattr(predicted, "toarray") else predicted
        array = numpy.atleast_1d(numpy.asarray(dense))
        if len(names) > 1 and array.ndim == 2 and array.shape[1] == len(names):
            yield from ((name, array[:, at]) for at, name in enumerate(names))
        else:
            yield (names[0] if len(names) == 1 else "output"), array


def _value(value: Any) -> Any:
    """Return a value as JSON carries it; a number of 32 bits by its shortest text."""
    import numpy

    if isinstance(value, numpy.datetime64):
        return str(numpy.datetime_as_string(value, timezone="UTC"))
    if isinstance(value, numpy.float32 | numpy.float16):
        value = float(str(value))
    elif isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else json.dumps(value, default=str)


if __name__ == "__main__":
    main()
