"""A worker: lets a model, or a variant of it, answer rows as the service would tell them, and measures how fast it does.

With a model this process is the model's from the loading on, and is believed in nothing but the answers it gives.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bentos.optimise.messages import Answered, AnswerRequest, Value
from bentos.service.answers import tensors
from bentos.service.prediction import parts
from bentos.service.signature import Signature, signature_of
from bentos.service.variant import load_variant
from fleet.worker_channel import answer, receive

BATCH = 64
"""Rows of a batch, as many as callers that wait at once are measured with."""
WIDEST = 1000


def main() -> None:
    """Answer one AnswerRequest."""
    request = receive(AnswerRequest)
    answer(answered(request))


def answered(request: AnswerRequest) -> Answered:
    """Return what the asked one answers, and how fast."""
    import pandas

    signature = _signature(request.model)
    # A variant takes columns as the service reads them; a model takes what MLflow takes
    frame = signature.frame and request.variant is None
    rows = pandas.read_parquet(request.rows)
    began = time.monotonic()
    predict = _predict(request)
    load_ms = (time.monotonic() - began) * 1000
    told = [_told(tensors(signature, predict(some(rows, signature, frame, [at])))) for at in range(len(rows))]
    outputs = tuple(told[0])
    if any(tuple(each) != outputs for each in told):
        raise SystemExit("it gives other outputs from row to row")
    return Answered(
        outputs,
        tuple(kind for kind, _ in told[0].values()),
        tuple(tuple(value for _, value in each.values()) for each in told),
        _rate(predict, some(rows, signature, frame, [0]), request.seconds),
        _rate(predict, some(rows, signature, frame, [at % len(rows) for at in range(BATCH)]), request.seconds) * BATCH,
        round(load_ms, 1),
        _together(predict, rows, signature, frame, outputs),
    )


def _together(predict: Any, rows: Any, signature: Signature, frame: bool, outputs: tuple[str, ...]) -> tuple[tuple[Value, ...], ...]:
    """Return what each row is answered among others, as a caller may send them; nothing where an answer has not a row for each."""
    found: list[tuple[Value, ...]] = []
    for begin in range(0, len(rows), BATCH):
        places = list(range(begin, min(begin + BATCH, len(rows))))
        taken = parts(predict(some(rows, signature, frame, places)), [1] * len(places))
        told = [_told(tensors(signature, part)) for part in taken or ()]
        if taken is None or any(tuple(each) != outputs for each in told):
            return ()
        found += [tuple(value for _, value in each.values()) for each in told]
    return tuple(found)


def _signature(model: Path) -> Signature:
    from mlflow.models import Model

    return signature_of(Model.load(str(model)).signature)


def _predict(request: AnswerRequest) -> Any:
    if request.variant is not None:
        return load_variant(request.variant).predict
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(request.model)).predict


def some(rows: Any, signature: Signature, frame: bool, places: list[int]) -> Any:
    """Return some rows as a frame, or as arrays by column; one array where the signature names none."""
    found = rows.iloc[places].reset_index(drop=True)
    if frame:
        return found
    import numpy

    arrays = {
        field.name: numpy.array(found[field.name].tolist(), dtype=field.dtype).reshape(len(found), *field.tail)
        for field in signature.inputs
    }
    return arrays if signature.named else next(iter(arrays.values()))


def _told(outputs: list[dict[str, Any]]) -> dict[str, tuple[str, Value]]:
    """Return one row's values with their protocol types by output, and by place behind it where an output has more dimensions."""
    found: dict[str, tuple[str, Value]] = {}
    for tensor in outputs:
        data = tensor["data"]
        values = [_value(value) for value in data]
        if len(values) > WIDEST:
            raise SystemExit(f"its output '{tensor['name']}' has {len(values)} values a row, and {WIDEST} are the most that are compared")
        flat = len(tensor["shape"]) == 1 and len(values) == 1
        names = [tensor["name"]] if flat else [f"{tensor['name']}.{place}" for place in range(len(values))]
        found |= {name: (tensor["datatype"], value) for name, value in zip(names, values, strict=True)}
    return found


def _value(value: Any) -> Value:
    """Return a value as JSON carries it: a number of fewer bits by its shortest text, none for what is no number."""
    import math

    import numpy

    if isinstance(value, numpy.float32 | numpy.float16):
        value = float(str(value))
    plain = value.item() if isinstance(value, numpy.generic) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def _rate(predict: Any, rows: Any, seconds: float) -> float:
    """Return how often a second some rows are answered, after once that does not count."""
    predict(rows)
    began = time.perf_counter()
    times = 0
    while (took := time.perf_counter() - began) < seconds:
        predict(rows)
        times += 1
    return round(times / took, 3)


if __name__ == "__main__":
    main()
