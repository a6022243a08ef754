"""The door of SageMaker and of MLflow's own scoring server: /invocations.

A body in JSON has one of MLflow's keys: `dataframe_split` {columns, data}, `dataframe_records` (rows as objects), `instances`
(rows as objects or lists) or `inputs` (columns by name, or rows), and may have `params`; the answer is {"predictions": …}.
A body in CSV is answered in CSV or JSON, as `accept` says.
https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally and
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from .csvtext import from_csv, to_csv
from .documents import parsed_object
from .doors import JSON, LIGHT_ROWS, Call, Question, Reply, media_type
from .errors import BadRequest
from .exchange import Headers
from .negotiation import accepted
from .params import all_params
from .rows import from_columns, from_lists, from_records, from_rows, predictions
from .scorer import Scored, Scorer
from .signature import Signature

CSV = "text/csv"
CSV_WITH_HEADER = "text/csv; header=present"
SESSION, EXPLAIN = b"x-amzn-sagemaker-session-id", b"x-amzn-sagemaker-enable-explanations"
REFUSED = {SESSION: "the model keeps no sessions", EXPLAIN: "the model gives no explanations"}
"""What SageMaker's callers may ask for in headers and would not get: an answer without it could pass for one with it."""
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
"""The only header of ours that InvokeEndpoint's caller gets to see; SageMaker strips the others."""
MOST_ATTRIBUTES = 1024
SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Invocations:
    """The door at /invocations."""

    light_bytes = LIGHT_ROWS

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Take JSON and CSV; raises NotAcceptable, and BadRequest for what no model of ours gives."""
        for name, reason in REFUSED.items():
            if headers.get(name):
                raise BadRequest(f"{name.decode()}: {reason}")
        self._form(headers)
        return JSON, CSV

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Say revision, region and request id once more where SageMaker lets them through to the caller."""
        told = b";".join(b"%b=%b" % mark for mark in common)
        return [(ATTRIBUTES, told)] if told.isascii() and len(told) <= MOST_ATTRIBUTES else []

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a call asks; raises BadRequest."""
        kind, parameters = media_type(call.headers)
        form = self._form(call.headers)
        if kind == CSV:
            return Question(from_csv(scorer.signature, call.body, parameters.get("header")), given=form)
        document = parsed_object(call.body)
        params = all_params(scorer.signature.params, document.get("params"), "params")
        return Question(from_shapes(scorer.signature, document), params=params, given=form)

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return the predictions in the form that the caller accepts."""
        if question.given != JSON:
            return Reply(to_csv(scored, header=question.given == CSV_WITH_HEADER), question.given, told=scored.told)
        return predictions_reply(scored, predictions(scored))

    def _form(self, headers: Mapping[bytes, bytes]) -> str:
        wanted = headers.get(b"accept", b"")
        form = accepted(wanted, (CSV, JSON) if media_type(headers)[0] == CSV else (JSON, CSV))
        return CSV_WITH_HEADER if form == CSV and b"header=present" in wanted.replace(b" ", b"").lower() else form


def predictions_reply(scored: Scored, found: Any) -> Reply:
    """Return {"predictions": …} with what was found in what the model gave."""
    return Reply(orjson.dumps({"predictions": found}, option=orjson.OPT_SERIALIZE_NUMPY), told=scored.told)


def from_shapes(signature: Signature, document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return tensors of a document in one of MLflow's shapes; raises BadRequest."""
    given = [key for key in SHAPES if key in document]
    if len(given) != 1:
        raise BadRequest(f"the body must have exactly one of {', '.join(SHAPES)}")
    return READERS[given[0]](signature, document[given[0]])


def from_split(signature: Signature, split: Any, where: str = "dataframe_split") -> list[dict[str, Any]]:
    """Return tensors of rows beside the names of their columns; without names they are the signature's. Raises BadRequest."""
    if not isinstance(split, dict):
        raise BadRequest(f'"{where}" must be an object of "columns" and "data"')
    columns, rows = split.get("columns"), split.get("data")
    if columns is not None and not (isinstance(columns, list) and all(isinstance(name, str | int) for name in columns)):
        raise BadRequest(f'"columns" of "{where}" must be a list of names')
    names = None if columns is None else [str(name) for name in columns]
    if names is not None and len(set(names)) != len(names):
        raise BadRequest(f'"columns" of "{where}" has a name twice')
    if not isinstance(rows, list) or not rows:
        raise BadRequest(f'"data" of "{where}" must be a list of at least one row')
    return from_lists(signature, rows, names, f"{where}.data")


def _records(signature: Signature, records: Any) -> list[dict[str, Any]]:
    if not isinstance(records, list) or not records:
        raise BadRequest('"dataframe_records" must be a list of at least one row')
    return from_records(signature, records, "dataframe_records")


def _inputs(signature: Signature, inputs: Any) -> list[dict[str, Any]]:
    return from_columns(signature, inputs) if isinstance(inputs, dict) else from_rows(signature, inputs, "inputs")


def _instances(signature: Signature, instances: Any) -> list[dict[str, Any]]:
    return from_rows(signature, instances, "instances")


READERS: dict[str, Callable[[Signature, Any], list[dict[str, Any]]]] = {
    "dataframe_split": from_split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}
