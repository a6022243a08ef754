"""The routes of the Open Inference Protocol v2, as an ASGI application without a framework."""

from __future__ import annotations

import math
import time
from typing import Any

import orjson

from . import SERVICE_VERSION
from .answered import HEADER
from .batcher import Batcher, Limits
from .board import CONTENT_TYPE, Board
from .errors import ClientLeft, ModelFailed, NotFound, NotReady, Overloaded, Problem, TooLate, WrongMethod, told
from .exchange import Exchange, Headers, Message, Receive, Send
from .log import say
from .readiness import Readiness
from .scorer import Scorer
from .settings import ServiceSettings
from .traces import Traces, write
from .usage import Usage
from .worker import Worker

READS = ("GET", "HEAD")
METRICS = "/metrics"
MODELS = "/v2/models/"
NOT_READY = (b"x-convoy-not-ready", b"1")
"""Tells the edge that this is no answer: a process that is only starting refuses, and another place may answer."""
NOBODYS = (b"drill", b"shadow", b"golden")
"""Traffic whose rows are not kept: a drill's are made up, golden ones always the same, a shadow's are kept where they were answered."""


class App:
    """Answers every request with JSON: 200, or `{"error": …}` with the status of its Problem; figures are text."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness, worker: Worker, board: Board | None = None) -> None:
        self._settings = settings
        self._readiness = readiness
        self._worker = worker
        self._usage = Usage(settings)
        self._region = settings.region.encode()
        self._board = board or Board()
        self._traces = Traces(settings.trace_rate)
        self._limits = Limits(settings.slots, settings.queue_bytes, settings.batch_rows)
        self._batcher: Batcher | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; nothing but a programming error is raised."""
        exchange = Exchange(scope, receive, send)
        headers: Headers = [
            (b"x-convoy-revision", self._readiness.revision.encode()),
            (b"x-convoy-region", self._region),
            (b"x-request-id", exchange.request_id),
        ]
        try:
            if exchange.path.endswith("/infer"):
                await self._infer(exchange, headers)
            elif exchange.path == METRICS:
                await self._metrics(exchange, headers)
            else:
                await exchange.answer_json(200, self._read(exchange), headers)
        except ClientLeft:
            return
        except Problem as problem:
            if isinstance(problem, ModelFailed):
                say(f"request {headers[2][1].decode('latin-1')}: the model failed: {_class_name(problem)}")
            body = orjson.dumps(_error(problem))
            await self._answer(exchange, problem.status, body, [*headers, *self._hints(problem)])
        except Exception as problem:
            await self._answer(exchange, 500, orjson.dumps({"error": f"unexpected: {told(problem)}"}), headers)
            raise

    async def _answer(self, exchange: Exchange, status: int, body: bytes, headers: Headers) -> None:
        """Count a prediction's answer, then send it: whoever has an answer finds it counted, whenever the process is killed."""
        if exchange.path.endswith("/infer"):
            self._usage.count(exchange.traffic, status, exchange.received, len(body))
            self._board.answered(status, time.perf_counter() - exchange.began)
            self._trace(exchange, status, headers[2][1])
        await exchange.answer(status, body, headers)

    async def _infer(self, exchange: Exchange, headers: Headers) -> None:
        scorer = self._scorer(exchange.path.removesuffix("/infer"))
        _allow(exchange, "POST")
        body = await exchange.json_body(self._settings.body_bytes)
        batcher = self._batcher or self._begin(scorer)
        try:
            answer, exchange.entry = await batcher.answer(body, exchange.deadline(self._settings.deadline_ms))
        except Overloaded:
            self._board.shed("overloaded")
            raise
        except TooLate:
            self._board.shed("too_late")
            raise
        await self._answer(exchange, 200, answer.body, [*headers, (HEADER, answer.told)])
        if self._readiness.capture is not None and exchange.traffic not in NOBODYS:
            self._readiness.capture.offer(headers[2][1], body, answer.body)

    def _begin(self, scorer: Scorer) -> Batcher:
        self._batcher = Batcher(scorer, self._worker, self._limits, self._board)
        return self._batcher

    async def _metrics(self, exchange: Exchange, headers: Headers) -> None:
        _allow(exchange, *READS)
        scorer = self._readiness.scorer
        name = self._settings.model or (scorer.name if scorer is not None else "")
        labels = {"model": name, "region": self._settings.region, "revision": self._readiness.revision}
        await exchange.answer(200, self._board.text(labels), headers, CONTENT_TYPE)

    def _trace(self, exchange: Exchange, status: int, request_id: bytes) -> None:
        trace = self._traces.sampled(exchange.parent)
        if trace is None:
            return
        entry, now = exchange.entry, time.perf_counter()
        told_: dict[str, object] = {
            "at": round(time.time() - (now - exchange.began), 6),
            "request_id": request_id.decode("latin-1"),
            "traffic": exchange.traffic.decode("latin-1")[:40],
            "revision": self._readiness.revision,
            "status": status,
            "total_ms": round((now - exchange.began) * 1000, 3),
            "bytes": exchange.received,
        }
        if entry is not None:
            told_ |= {
                "wait_ms": round((entry.began - entry.arrived) * 1000, 3),
                "predict_ms": round((entry.ended - entry.began) * 1000, 3),
                "rows": entry.rows,
                "batch_requests": entry.batch,
            }
        write(trace, told_)

    def _hints(self, problem: Problem) -> Headers:
        """Return the headers that tell a caller or the edge what to do after a refusal."""
        if isinstance(problem, Overloaded):
            return [(b"retry-after", b"%d" % max(1, math.ceil(problem.wait)))]
        if isinstance(problem, NotReady):
            return [(b"retry-after", b"1"), *([NOT_READY] if self._readiness.scorer is None else [])]
        return []

    def _read(self, exchange: Exchange) -> dict[str, Any]:
        """Return the document of a path that only reads."""
        path = exchange.path.rstrip("/")
        documents = {"/v2": self._server, "/v2/health/live": lambda: {"live": True}, "/v2/health/ready": self._ready}
        if path in documents:
            _allow(exchange, *READS)
            return documents[path]()
        if not path.startswith(MODELS):
            raise NotFound(f"no such path: {exchange.path[:200]}")
        scorer = self._scorer(path.removesuffix("/ready"))
        _allow(exchange, *READS)
        return {"name": scorer.name, "ready": True} if path.endswith("/ready") else scorer.metadata()

    def _scorer(self, path: str) -> Scorer:
        """Return the model of a path `/v2/models/<name>`."""
        if not path.startswith(MODELS):
            raise NotFound(f"no such path: {path[:200]}")
        scorer = self._readiness.ready()
        if path != MODELS + scorer.name:
            raise NotFound(f"no such model: '{path.removeprefix(MODELS)[:100]}' (known: '{scorer.name}')")
        return scorer

    def _ready(self) -> dict[str, Any]:
        return {"ready": True, "took_ms": self._readiness.took_ms, **self._readiness.ready().notes}

    def _server(self) -> dict[str, Any]:
        return {"name": "convoy_service", "version": SERVICE_VERSION, "extensions": []}


def _allow(exchange: Exchange, *methods: str) -> None:
    if exchange.method not in methods:
        raise WrongMethod(f"the method must be {' or '.join(methods)}, not {exchange.method}")


def _error(problem: Problem) -> dict[str, Any]:
    document: dict[str, Any] = {"error": str(problem)}
    return {"ready": False, **document} if isinstance(problem, NotReady) else document


def _class_name(problem: ModelFailed) -> str:
    """Return what may be logged of a model's failure: its message may repeat a caller's data."""
    cause = problem.__cause__
    return type(cause).__name__ if cause is not None else str(problem)
