"""What the edges' logs are told of a container's answer, in the form of Convoy's own service (bentos/service/answered.py).

It is taken from the answer itself: what a container says of its own answers in that header is dropped.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

HEADER = "x-convoy-answer"
MOST_BYTES = 1 << 20
"""Of larger answers nothing is told: reading them would keep other callers waiting."""
NO_SCORE, LARGEST = "-", 1e15
KEPT = ("name", "datatype", "shape", "data")


def told_of(body: bytes) -> str | None:
    """Return `<score>;<mark>` of an Open Inference answer, None for what is none."""
    if len(body) > MOST_BYTES:
        return None
    try:
        outputs = [{key: each.get(key) for key in KEPT} for each in json.loads(body)["outputs"]]
        text = json.dumps(outputs, sort_keys=True, separators=(",", ":"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    try:
        score = _score(outputs)
    except (ArithmeticError, ValueError, RecursionError):
        # Numbers that cannot be added up, or in more folds than anybody means
        score = NO_SCORE
    return f"{score};{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _score(outputs: Sequence[dict[str, Any]]) -> str:
    """Return the mean over the rows of the first number of an output, of two numbers a row the second one's."""
    for output in outputs:
        numbers = _flat(output["data"])
        if not numbers or not all(type(value) in (int, float) for value in numbers):
            continue
        shape = output["shape"]
        rows = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int and shape[0] > 0 else len(numbers)
        width = len(numbers) // rows if len(numbers) % rows == 0 else 0
        if not width:
            return NO_SCORE
        mean = math.fsum(numbers[(1 if width == 2 else 0) :: width]) / rows
        return f"{mean:.6f}" if abs(mean) < LARGEST else NO_SCORE
    return NO_SCORE


def _flat(data: Any) -> list[Any]:
    return [inner for each in data for inner in _flat(each)] if isinstance(data, list) else [data]
