"""Where a variant may not be asked with a missing value: its model raises on it, or the graph would answer it otherwise.

Trees are the case in point: those of a forest send a missing value where scikit-learn has decided, those of a graph always
to one side. A linear model raises, and its graph answers with no number.
"""

from __future__ import annotations

from typing import Any

from bentos.optimise.answer import some
from bentos.optimise.messages import ConvertRequest
from bentos.service.answers import tensors
from bentos.service.signature import Signature
from bentos.service.variant import OnnxVariant

ROWS = 32
NEAR = 1e-3
"""How far numbers may be apart: a graph calculates in 32 bits."""


def refused(request: ConvertRequest, signature: Signature, variant: OnnxVariant) -> tuple[str, ...]:
    """Return the real columns of which no value may be missing, tried one by one with the model's first rows."""
    import mlflow.pyfunc
    import numpy
    import pandas

    model = mlflow.pyfunc.load_model(str(request.model))
    rows = pandas.read_parquet(request.rows).head(ROWS)
    found = []
    for field in signature.inputs:
        if field.dtype.kind != "f":
            continue
        gone = rows.copy()
        gone[field.name] = [numpy.full_like(numpy.asarray(value, dtype=field.dtype), numpy.nan).tolist() for value in rows[field.name]]
        if not _alike(signature, model, variant, gone):
            found.append(field.name)
    return tuple(found)


def _alike(signature: Signature, model: Any, variant: OnnxVariant, rows: Any) -> bool:
    places = list(range(len(rows)))
    try:
        own = tensors(signature, model.predict(some(rows, signature, signature.frame, places)))
        its = tensors(signature, variant.predict(some(rows, signature, False, places)))
    except Exception:  # noqa: BLE001  whichever raises, it does not answer
        return False
    return len(own) == len(its) and all(equal(one, other) for one, other in zip(own, its, strict=True))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether two outputs are the same for what a graph can tell."""
    import numpy

    if one["shape"] != other["shape"]:
        return False
    if not one["datatype"].startswith("FP"):
        return list(one["data"]) == list(other["data"])
    return bool(numpy.allclose(one["data"], other["data"], rtol=NEAR, atol=NEAR, equal_nan=True))
