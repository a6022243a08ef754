"""Asking a server as a cloud asks it: every answer is a value, also none."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

ASK_SECONDS = 30.0
MOST_BYTES, CHUNK = 16 << 20, 64 << 10
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status (0: nobody answered, `text` says why), headers in small letters, the body as text, seconds."""

    status: int
    headers: Mapping[str, str]
    text: str
    seconds: float

    def document(self) -> Any:
        """Return the body as JSON, None where it is none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    @property
    def told(self) -> str:
        """Say in a few words what it was."""
        return f"{self.status}: {self.text[:200]}" if self.status else f"no answer: {self.text}"


@dataclass(frozen=True, slots=True)
class Subject:
    """A server and what it should be: its digest and its model's name where they are known, and rows that it may answer.

    `request` is a whole Open Inference request that it should answer, asked in the place of the rows where it is known.
    """

    client: httpx.Client
    digest: str | None = None
    model: str | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    health_route: str = "/ping"
    predict_route: str = "/invocations"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request: bytes | None = None

    def get(self, path: str) -> Answer:
        """Ask for a path."""
        return self._answer("GET", path, None)

    def post(self, path: str, body: Any, content_type: str = JSON) -> Answer:
        """Send a document as JSON, or bytes as they are."""
        return self._answer("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)

    def _answer(self, method: str, path: str, body: bytes | None, content_type: str = JSON) -> Answer:
        headers = {"content-type": content_type} if body is not None else {}
        began = time.monotonic()
        try:
            with self.client.stream(method, path, content=body, headers=headers) as found:
                text = _bounded(found, began)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            return Answer(0, {}, f"{type(problem).__name__}: {problem}", 0.0)
        if text is None:
            return Answer(
                0, {}, f"{found.status_code} with an answer that does not end within {MOST_BYTES} bytes and {ASK_SECONDS:g} s", 0.0
            )
        seconds = time.monotonic() - began
        return Answer(found.status_code, {name.lower(): value for name, value in found.headers.items()}, text, seconds)


def _bounded(answer: httpx.Response, began: float) -> str | None:
    """Return a body as text, None for one that is too large or takes too long: a server may never end its answer."""
    data = bytearray()
    for chunk in answer.iter_bytes(CHUNK):
        data += chunk
        if len(data) > MOST_BYTES or time.monotonic() - began > ASK_SECONDS:
            return None
    return data.decode("utf-8", "replace")


def is_column(found: Any) -> bool:
    """Say whether a server described one of its model's columns as the protocol has it."""
    return isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in COLUMN.items())


COLUMN = {"name": str, "datatype": str, "shape": list}
SAMPLES: Mapping[str, Any] = {"BOOL": False, "BYTES": "x", "FP16": 0.0, "FP32": 0.0, "FP64": 0.0}
"""A value of each type of the protocol; whole numbers are 0."""


def described(subject: Subject) -> Mapping[str, Any]:
    """Return what a server tells of its model, nothing where the name is not known or it tells nothing."""
    found = subject.get(f"/v2/models/{subject.model}").document() if subject.model else None
    inputs = found.get("inputs") if isinstance(found, dict) else None
    told = isinstance(inputs, list) and all(isinstance(each, dict) and {"name", "datatype"} <= each.keys() for each in inputs)
    return found if told and isinstance(found, dict) else {}


def sample_rows(metadata: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return one row of zeros for what a model says of its inputs, none for one that says nothing."""
    columns = [column for column in metadata.get("inputs", ()) if is_column(column)]
    row = {str(column["name"]): SAMPLES.get(str(column["datatype"]), 0) for column in columns}
    return (row,) if row else ()
