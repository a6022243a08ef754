"""Whether a variant's rows mind one another: a graph that somebody logged may do with all rows of a call what it likes."""

from __future__ import annotations

from bentos.optimise.answer import some
from bentos.optimise.gaps import ROWS, equal
from bentos.optimise.messages import ConvertRequest
from bentos.service.answers import tensors
from bentos.service.prediction import parts
from bentos.service.signature import Signature
from bentos.service.variant import OnnxVariant


def together(request: ConvertRequest, signature: Signature, variant: OnnxVariant) -> bool:
    """Say whether the model's first rows are answered in one call as each by itself; one row alone cannot tell."""
    import pandas

    rows = pandas.read_parquet(request.rows).head(ROWS)
    places = list(range(len(rows)))
    if len(places) < 2:
        return False
    try:
        whole = parts(variant.predict(some(rows, signature, False, places)), [1] * len(places))
        alone = [tensors(signature, variant.predict(some(rows, signature, False, [at]))) for at in places]
    except Exception:  # noqa: BLE001  a graph that takes one row at a time raises what it likes
        return False
    if whole is None:
        return False
    pairs = zip(alone, (tensors(signature, part) for part in whole), strict=True)
    return all(len(one) == len(other) and all(map(equal, one, other)) for one, other in pairs)
