"""One caller's visit, by whichever door it came: what its headers say of it, and what is counted and traced of it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from .errors import BadRequest

if TYPE_CHECKING:
    from .batcher import Entry

REQUEST_ID_LIMIT = 128
REQUEST_IDS = (b"x-request-id", b"x-amzn-sagemaker-inference-id", b"x-ms-client-request-id", b"x-ms-request-id")
"""Where a caller or its cloud names the request: the first that is there counts."""
DEADLINE = b"x-convoy-deadline-ms"
EDGE_TIMEOUT = b"x-envoy-expected-rq-timeout-ms"
EDGE_SLACK_SECONDS = 0.05
"""By how much later than the edge this side gives up: whose time is up at the edge is tried elsewhere, an answer would not be."""


class Deadline(NamedTuple):
    """Within how many seconds a caller wants its answer, and after how many at the latest nobody waits any more."""

    wanted: float
    latest: float


class Visit:
    """A question for the model, from its head until its answer is ready; header names are in lower case."""

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self.headers = headers
        self.began = time.perf_counter()
        self.request_id = _request_id(headers)
        """The caller's id of the request, or a new one where there is none or it is over 128 bytes."""
        self.received = 0
        """Bytes of the body that were read."""
        self.held = 0
        """Those of them that are in memory."""
        self.entry: Entry | None = None
        """How its answer came about, once it has one."""

    @property
    def traffic(self) -> bytes:
        """The kind of traffic as the edge labelled it; empty when it came past no edge."""
        return self.headers.get(b"x-convoy-traffic", b"")

    @property
    def parent(self) -> bytes:
        """The caller's W3C trace context; empty where it sent none."""
        return self.headers.get(b"traceparent", b"")

    def deadline(self, default_ms: int, most: float | None = None) -> Deadline:
        """Return the time that this request has, `most` seconds where its protocol says so.

        Raises BadRequest for a header that is no time.
        """
        given = self.headers.get(DEADLINE)
        if given is not None and not (len(given) <= 8 and given.isdigit() and int(given)):
            raise BadRequest(f"header {DEADLINE.decode()}: must be whole milliseconds from 1 to 99999999")
        seconds = (int(given) if given is not None else default_ms) / 1000
        if most is not None:
            seconds = min(seconds, most)
        edge = self.headers.get(EDGE_TIMEOUT, b"")
        if edge.isdigit() and 0 < int(edge[:8]) / 1000 + EDGE_SLACK_SECONDS < seconds:
            return Deadline(seconds, int(edge[:8]) / 1000 + EDGE_SLACK_SECONDS)
        return Deadline(seconds, seconds)


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    for name in REQUEST_IDS:
        if given := headers.get(name):
            return given if len(given) <= REQUEST_ID_LIMIT else _new_id()
    return _new_id()


def _new_id() -> bytes:
    return os.urandom(16).hex().encode()
