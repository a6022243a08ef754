"""Figures of the serving processes of one revision, in memory that they share: each writes its own, any may tell the sum.

Memory that outlives a process that was killed: the one started in its place goes on adding, so no counter ever goes back.
The text is that of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4).
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterator, Sequence

CODES = (200, 400, 404, 405, 406, 408, 413, 415, 500, 503, 504)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper limits of the steps that latencies are counted in."""
REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Upper limits of the steps that requests in one call are counted in."""
SHED = ("overloaded", "too_late")

_CODES_AT = 0
_LATENCY_AT = _CODES_AT + len(CODES) + 1
_MICROSECONDS_AT = _LATENCY_AT + len(SECONDS) + 1
_BATCH_AT = _MICROSECONDS_AT + 1
_BATCHED_AT = _BATCH_AT + len(REQUESTS) + 1
_SHED_AT = _BATCHED_AT + 1
_DEPTH_AT = _SHED_AT + len(SHED)
_READY_AT = _DEPTH_AT + 1
WORDS = 64
SIZE = WORDS * 8
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Board:
    """The figures of one of several processes; only its event loop writes them."""

    def __init__(self, memory: mmap.mmap | None = None, own: int = 0, processes: int = 1) -> None:
        """Take part in a shared memory of `processes` parts of SIZE bytes, or have a memory of one's own."""
        self._all = memoryview(memory if memory is not None else bytearray(SIZE * processes)).cast("Q")
        self._processes = processes
        self._own = self._all[own * WORDS : (own + 1) * WORDS]
        self._own[_DEPTH_AT] = self._own[_READY_AT] = 0

    def answered(self, status: int, seconds: float) -> None:
        """Count one answer to a request for predictions."""
        own = self._own
        own[_CODES_AT + CODE_PLACES.get(status, len(CODES))] += 1
        own[_LATENCY_AT + bisect_left(SECONDS, seconds)] += 1
        own[_MICROSECONDS_AT] += int(seconds * 1e6)

    def batched(self, requests: int) -> None:
        """Count one call of the model."""
        own = self._own
        own[_BATCH_AT + bisect_left(REQUESTS, requests)] += 1
        own[_BATCHED_AT] += requests

    def shed(self, why: str) -> None:
        """Count one request that was not scored for want of time or room."""
        self._own[_SHED_AT + SHED.index(why)] += 1

    def waiting(self, requests: int) -> None:
        """Say how many requests are inside now."""
        self._own[_DEPTH_AT] = requests

    def ready(self) -> None:
        """Say that this process answers."""
        self._own[_READY_AT] = 1

    def gone(self) -> None:
        """Say that this process answers no more, with nothing inside."""
        self._own[_DEPTH_AT] = self._own[_READY_AT] = 0

    def text(self, labels: dict[str, str]) -> bytes:
        """Return the sum over all processes, every line with the labels."""
        words = [sum(self._all[at::WORDS]) for at in range(WORDS)]
        common = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        return "\n".join([*_lines(words, common), ""]).encode()


CODE_PLACES = {code: place for place, code in enumerate(CODES)}


def _lines(words: Sequence[int], common: str) -> Iterator[str]:
    yield from _head("requests_total", "counter", "Answered requests for predictions, by status.")
    for place, code in enumerate((*CODES, "other")):
        yield f'convoy_service_requests_total{{{common},code="{code}"}} {words[_CODES_AT + place]}'
    yield from _head("errors_total", "counter", "Answers that are no success, by whose fault.")
    client = sum(words[_CODES_AT + place] for place, code in enumerate(CODES) if 400 <= code < 500)
    server = sum(words[_CODES_AT + place] for place, code in enumerate(CODES) if code >= 500)
    yield f'convoy_service_errors_total{{{common},kind="client"}} {client}'
    yield f'convoy_service_errors_total{{{common},kind="server"}} {server}'
    yield from _head("request_seconds", "histogram", "From the head of a request until its answer is ready.")
    yield from _histogram("request_seconds", SECONDS, words[_LATENCY_AT:_MICROSECONDS_AT], words[_MICROSECONDS_AT] / 1e6, common)
    yield from _head("batch_requests", "histogram", "Requests that were scored in one call of the model.")
    yield from _histogram("batch_requests", REQUESTS, words[_BATCH_AT:_BATCHED_AT], words[_BATCHED_AT], common)
    yield from _head("shed_total", "counter", "Requests that were not scored for want of room or time.")
    for place, why in enumerate(SHED):
        yield f'convoy_service_shed_total{{{common},why="{why}"}} {words[_SHED_AT + place]}'
    yield from _head("queue_depth", "gauge", "Requests that wait or are being scored.")
    yield f"convoy_service_queue_depth{{{common}}} {words[_DEPTH_AT]}"
    yield from _head("processes_ready", "gauge", "Processes that answer.")
    yield f"convoy_service_processes_ready{{{common}}} {words[_READY_AT]}"


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP convoy_service_{name} {meaning}"
    yield f"# TYPE convoy_service_{name} {kind}"


def _histogram(name: str, limits: Sequence[float], counts: Sequence[int], total: float, common: str) -> Iterator[str]:
    seen = 0
    for limit, count in zip((*limits, "+Inf"), counts, strict=True):
        seen += count
        yield f'convoy_service_{name}_bucket{{{common},le="{limit}"}} {seen}'
    yield f"convoy_service_{name}_sum{{{common}}} {total}"
    yield f"convoy_service_{name}_count{{{common}}} {seen}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
