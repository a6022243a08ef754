"""MLflow's REST interface: typed answers, and its errors in our terms, told apart by their codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.errors import Busy, ConvoyError, Denied, InputError, OperationFailed, UnknownName, Unreachable

SECONDS = 20.0
QUICK_SECONDS = 3.0
"""How long a read is waited for that MLflow answers in milliseconds from its database: one that hangs keeps nobody longer."""
CHUNK = 1 << 20
_API = "/api/2.0"


class Answer(BaseModel):
    """The part of an answer that we read; MLflow leaves out what is empty and may add what is new."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Nothing(Answer):
    """An answer that says no more than that it was done."""


class _Problem(Answer):
    error_code: str = ""
    message: str = ""


A = TypeVar("A", bound=Answer)
Query = Mapping[str, str | int]
Body = Mapping[str, object]


class Rest:
    """One MLflow server; connects when first asked.

    Raises Unreachable (no answer, or the server failed), Busy (throttled), Denied, UnknownName (no such resource)
    and InputError (MLflow refuses the values).
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, path: str, answer: type[A], query: Query | None = None, seconds: float = SECONDS) -> A:
        """Read a resource; `seconds` is how long the server may be silent."""
        with self._translated(path):
            response = self._client.get(_API + path, params=query, timeout=seconds)
        return self._read(response, path, answer)

    def send(self, method: str, path: str, answer: type[A], body: Body) -> A:
        """Change a resource."""
        with self._translated(path):
            response = self._client.request(method, _API + path, json=body)
        return self._read(response, path, answer)

    def download(self, path: str, to: Path) -> None:
        """Stream an answer's body into a new file."""
        with self._translated(path), self._client.stream("GET", _API + path) as response, to.open("xb") as file:
            if response.is_error:
                response.read()
            self._check(response, path)
            for chunk in response.iter_bytes(CHUNK):
                file.write(chunk)

    @cached_property
    def _client(self) -> httpx.Client:
        # What a proxy or a .netrc says in the environment is not a setting of ours.
        return httpx.Client(base_url=self.url, timeout=SECONDS, trust_env=False)

    def _read(self, response: httpx.Response, path: str, answer: type[A]) -> A:
        self._check(response, path)
        try:
            return answer.model_validate_json(response.content)
        except ValidationError as problem:
            raise OperationFailed(f"MLflow at {self.url}", f"gave an answer to {path} that is not MLflow's", "Check the URL.") from problem

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as problem:
            raise Unreachable(
                f"MLflow at {self.url}", f"did not answer {path} ({type(problem).__name__})", "Check that it runs: `convoy status`."
            ) from problem

    def _check(self, response: httpx.Response, path: str) -> None:
        if not response.is_success:
            raise self._in_our_terms(response, path)

    def _in_our_terms(self, response: httpx.Response, path: str) -> ConvoyError:
        try:
            told = _Problem.model_validate_json(response.content)
        except ValidationError:
            told = _Problem()
        subject, reason = f"MLflow at {self.url}", told.message or f"answered {path} with {response.status_code}"
        if response.status_code in (401, 403):
            return Denied(subject, reason, "Check the credentials for MLflow.")
        if told.error_code == "RESOURCE_DOES_NOT_EXIST":
            return UnknownName(subject, reason)
        if response.status_code == 429:
            return Busy(subject, reason)
        if response.status_code >= 500:
            return Unreachable(subject, reason, "Look at MLflow's log.")
        if told.error_code:
            return InputError(subject, reason)
        return OperationFailed(subject, reason, "Check the URL.")
