"""The door of Vertex AI, which is also that of KServe v1 and TensorFlow Serving: `instances` in, `predictions` out.

Where it is, Vertex AI says in AIP_PREDICT_ROUTE; without it at /v1/models/<model>:predict.
https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
"""

from __future__ import annotations

from collections.abc import Mapping

from .documents import parsed_object
from .doors import JSON, LIGHT_ROWS, Call, Question, Reply
from .errors import BadRequest
from .exchange import Headers
from .invocations import predictions_reply
from .params import all_params
from .rows import by_row, from_rows
from .scorer import Scored, Scorer


class Vertex:
    """The door at AIP_PREDICT_ROUTE: one prediction for each instance, in their order."""

    light_bytes = LIGHT_ROWS

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Take JSON."""
        return (JSON,)

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Add nothing."""
        return []

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a call asks; raises BadRequest."""
        document = parsed_object(call.body)
        if "instances" not in document:
            raise BadRequest('the body must have the key "instances"')
        params = all_params(scorer.signature.params, document.get("parameters"), "parameters")
        return Question(from_rows(scorer.signature, document["instances"], "instances"), params=params)

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return one prediction for each instance."""
        return predictions_reply(scored, by_row(scored))
