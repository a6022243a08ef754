"""One request and its answer, at the level of ASGI."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import orjson

from .errors import BadRequest, ClientLeft, TooLarge, WrongType

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
REQUEST_ID_LIMIT = 128
Headers = list[tuple[bytes, bytes]]
JSON = b"application/json"
DEADLINE = b"x-convoy-deadline-ms"
EDGE_TIMEOUT = b"x-envoy-expected-rq-timeout-ms"
EDGE_SLACK_SECONDS = 0.05
"""By how much later than the edge this side gives up: whose time is up at the edge is tried elsewhere, an answer would not be."""


class Deadline(NamedTuple):
    """Within how many seconds a caller wants its answer, and after how many at the latest nobody waits any more."""

    wanted: float
    latest: float


class Exchange:
    """A request that is answered exactly once; every answer carries revision, region and request id."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # the server gives names in lower case; of a repeated header the first counts
        self._headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        self._receive = receive
        self._send = send
        self.received = 0
        """Bytes of the body that were read."""
        self.began = time.perf_counter()
        self.entry: Any = None
        """How its answer came about, once it has one."""

    @property
    def traffic(self) -> bytes:
        """The kind of traffic as the edge labelled it; empty when it came past no edge."""
        return self._headers.get(b"x-convoy-traffic", b"")

    @property
    def parent(self) -> bytes:
        """The caller's W3C trace context; empty where it sent none."""
        return self._headers.get(b"traceparent", b"")

    def deadline(self, default_ms: int) -> Deadline:
        """Return the time that this request has; raises BadRequest for a header that is no time."""
        given = self._headers.get(DEADLINE)
        if given is not None and not (len(given) <= 8 and given.isdigit() and int(given)):
            raise BadRequest(f"header {DEADLINE.decode()}: must be whole milliseconds from 1 to 99999999")
        seconds = (int(given) if given is not None else default_ms) / 1000
        edge = self._headers.get(EDGE_TIMEOUT, b"")
        if edge.isdigit() and 0 < int(edge[:8]) / 1000 + EDGE_SLACK_SECONDS < seconds:
            return Deadline(seconds, int(edge[:8]) / 1000 + EDGE_SLACK_SECONDS)
        return Deadline(seconds, seconds)

    @property
    def request_id(self) -> bytes:
        """The caller's id of the request, or a new one where there is none or it is over 128 bytes."""
        given = self._headers.get(b"x-request-id", b"")
        return given if 0 < len(given) <= REQUEST_ID_LIMIT else os.urandom(16).hex().encode()

    async def json_body(self, limit: int) -> bytes:
        """Return the body; raises WrongType unless it is plain JSON, TooLarge over the limit, ClientLeft when it breaks off."""
        content_type = self._headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if content_type != b"application/json":
            raise WrongType(f"the content type must be application/json, not '{content_type.decode('latin-1')[:100]}'")
        if self._headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise WrongType("the body must not be encoded: send it without content-encoding")
        too_large = TooLarge(f"the body must not have more than {limit} bytes")
        if int(self._headers.get(b"content-length", b"0")) > limit:
            raise too_large
        chunks, more = [], True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk: bytes = message.get("body", b"")
            chunks.append(chunk)
            self.received += len(chunk)
            if self.received > limit:
                raise too_large
            more = message.get("more_body", False)
        return b"".join(chunks)

    async def answer(self, status: int, body: bytes, headers: Headers, content_type: bytes = JSON) -> None:
        """Send the whole answer."""
        fixed = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        await self._send({"type": "http.response.start", "status": status, "headers": fixed + headers})
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def answer_json(self, status: int, document: dict[str, Any], headers: Headers) -> None:
        """Send a document."""
        await self.answer(status, orjson.dumps(document), headers)
