"""The Open Inference Protocol v2 over REST with binary tensors; what is plain JSON the scorer reads by itself.

A body is JSON, or JSON followed by bytes: `inference-header-content-length` then says how long the JSON is, and a tensor
with the parameter `binary_data_size` takes as many of the bytes, in the order of the tensors. An output is answered in
binary where it, or the request for all of them, asks for it. The extension is Triton's `binary_tensor_data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .doors import JSON, LIGHT_COLUMNS, NO_TYPE, Call, Question, Reply
from .errors import BadRequest
from .exchange import Headers
from .params import known_params
from .raw import decoded, encoded
from .scorer import Scored, Scorer, parsed

BINARY = "application/octet-stream"
JSON_BYTES = b"inference-header-content-length"
EXTENSION = "binary_tensor_data"
BINARY_DATA = b'"binary_data'
"""In every body with tensors in binary, or that asks for them: `binary_data_size`, `binary_data`, `binary_data_output`."""


class Oip:
    """The door at /v2/models/<model>/infer."""

    light_bytes = LIGHT_COLUMNS

    def admit(self, headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
        """Take JSON; where the header announces binary tensors, bytes as well. Raises BadRequest for a wrong header."""
        if JSON_BYTES not in headers:
            return JSON, NO_TYPE
        _json_bytes(headers)
        return BINARY, JSON, NO_TYPE

    def marks(self, headers: Mapping[bytes, bytes], common: Headers) -> Headers:
        """Add nothing."""
        return []

    def read(self, scorer: Scorer, call: Call) -> Question:
        """Return what a call asks; raises BadRequest."""
        size = _json_bytes(call.headers) if JSON_BYTES in call.headers else len(call.body)
        if size > len(call.body):
            raise BadRequest(f"{JSON_BYTES.decode()} is {size}, the body has {len(call.body)} bytes")
        request = parsed(call.body[:size])
        inputs = request.get("inputs")
        plain = size == len(call.body) and BINARY_DATA not in call.body
        if not plain and isinstance(inputs, list) and all(isinstance(tensor, dict) for tensor in inputs):
            inputs = _with_bytes(inputs, call.body[size:])
        params = known_params(scorer.signature.params, request.get("parameters"))
        # what is no list the scorer refuses in its own words
        return Question(inputs, request.get("outputs"), params, request, plain)  # type: ignore[arg-type]

    def write(self, scorer: Scorer, question: Question, scored: Scored) -> Reply:
        """Return JSON, followed by the bytes of the tensors that were wanted in binary."""
        request = question.given
        binary = _wanted_in_binary(request, scored.tensors)
        if not any(binary):
            return Reply(scorer.written(request, scored), told=scored.told)
        outputs, chunks = [], []
        for tensor, wanted in zip(scored.tensors, binary, strict=True):
            if wanted:
                chunks.append(encoded(tensor))
                tensor = {key: tensor[key] for key in ("name", "datatype", "shape")} | {"parameters": {"binary_data_size": len(chunks[-1])}}
            outputs.append(tensor)
        head = orjson.dumps(scorer.named(request) | {"outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Reply(head + b"".join(chunks), BINARY, [(JSON_BYTES, str(len(head)).encode())], scored.told)


def _json_bytes(headers: Mapping[bytes, bytes]) -> int:
    text = headers[JSON_BYTES]
    if not text.isdigit() or len(text) > 18:
        raise BadRequest(f"{JSON_BYTES.decode()} must be a whole number of bytes")
    return int(text)


def _with_bytes(inputs: list[dict[str, Any]], raw: bytes) -> list[dict[str, Any]]:
    """Return the tensors with their share of the bytes as data."""
    filled, at = [], 0
    for number, tensor in enumerate(inputs):
        parameters = tensor.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is not None:
            name = tensor["name"] if isinstance(tensor.get("name"), str) else f"inputs[{number}]"
            if type(size) is not int or not 0 <= size <= len(raw) - at:
                raise BadRequest(f"column '{name}': binary_data_size is {size!r:.40}, {len(raw) - at} bytes are left")
            tensor = tensor | {"data": decoded(name, tensor.get("datatype"), raw[at : at + size])}
            at += size
        filled.append(tensor)
    if at != len(raw):
        raise BadRequest(f"{len(raw) - at} bytes follow the tensors")
    return filled


def _wanted_in_binary(request: dict[str, Any], tensors: list[dict[str, Any]]) -> list[bool]:
    """Tell of each tensor of the answer whether it is wanted in binary."""
    everything = _flag(request, "binary_data_output", False)
    asked = request.get("outputs")
    if asked is None:
        return [everything] * len(tensors)
    return [_flag(output, "binary_data", everything) for output in asked]


def _flag(document: dict[str, Any], name: str, default: bool) -> bool:
    parameters = document.get("parameters")
    value = parameters.get(name, default) if isinstance(parameters, dict) else default
    return value is True
