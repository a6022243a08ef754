"""The door of Azure ML's online endpoints: /score, with the bodies and the answer of its deployments of MLflow models.

A body has `input_data`: {columns, data} or columns by name or rows, and may have `params`; MLflow's own keys are taken as well.
The answer is the bare list of predictions. Azure gives each request an id, which every answer repeats.
https://learn.microsoft.com/azure/machine-learning/how-to-deploy-mlflow-models
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .documents import parsed_object
from .doors import JSON, LIGHT_ROWS, Call, Question, Reply
from .errors import BadRequest
from .exchange import Headers
from .invocations import SHAPES, from_shapes, from_split
from .params import all_params
from .rows import from_columns, from_rows, predictions
from .scorer import Scored, Scorer
from .signature import Signature

KEY = "input_data"
REQUEST_ID, CLIENT_ID = b"x-ms-request-id", b"x-ms-client-request-id"


class Azure:
    """The door at /score."""

    light_bytes = LIGHT_ROWS

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Take JSON."""
        return (JSON,)

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Repeat the caller's id of the request, and give ours as Azure's."""
        given = headers.get(CLIENT_ID)
        return [(REQUEST_ID, dict(common)[b"x-request-id"]), *([(CLIENT_ID, given)] if given else [])]

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a call asks; raises BadRequest."""
        document = parsed_object(call.body)
        given = [key for key in (KEY, *SHAPES) if key in document]
        if len(given) != 1:
            raise BadRequest(f"the body must have exactly one of {KEY}, {', '.join(SHAPES)}")
        signature = scorer.signature
        inputs = _tensors(signature, document[KEY]) if given == [KEY] else from_shapes(signature, document)
        return Question(inputs, params=all_params(signature.params, document.get("params"), "params"))

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return the predictions without anything around them."""
        return Reply(orjson.dumps(predictions(scored), option=orjson.OPT_SERIALIZE_NUMPY), told=scored.told)


def _tensors(signature: Signature, given: Any) -> list[dict[str, Any]]:
    """Return tensors of `input_data`; an object is a split table where it has exactly the keys of one."""
    if isinstance(given, dict):
        split = set(given) <= {"columns", "index", "data"} and "data" in given and not {"columns", "data"} <= set(signature.by_name)
        return from_split(signature, given, KEY) if split else from_columns(signature, given)
    return from_rows(signature, given, KEY)
