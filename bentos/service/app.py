"""The routes of the Open Inference Protocol v2, as an ASGI application without a framework."""

from __future__ import annotations

from typing import Any

import orjson

from . import SERVICE_VERSION
from .answered import HEADER
from .errors import ClientLeft, ModelFailed, NotFound, NotReady, Problem, WrongMethod, told
from .exchange import Exchange, Headers, Message, Receive, Send
from .log import say
from .readiness import Readiness
from .scorer import Scorer
from .settings import ServiceSettings
from .usage import Usage
from .worker import Worker

READS = ("GET", "HEAD")
MODELS = "/v2/models/"
NOT_READY = (b"x-convoy-not-ready", b"1")
"""Tells the edge that this is no answer: a process that is only starting refuses, and another place may answer."""
NOBODYS = (b"drill", b"shadow", b"golden")
"""Traffic whose rows are not kept: a drill's are made up, golden ones always the same, a shadow's are kept where they were answered."""


class App:
    """Answers every request with JSON: 200, or `{"error": …}` with the status of its Problem."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness, worker: Worker) -> None:
        self._settings = settings
        self._readiness = readiness
        self._worker = worker
        self._usage = Usage(settings)
        self._region = settings.region.encode()

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
            else:
                await exchange.answer_json(200, self._read(exchange), headers)
        except ClientLeft:
            return
        except Problem as problem:
            if isinstance(problem, ModelFailed):
                say(f"request {headers[2][1].decode('latin-1')}: the model failed: {_class_name(problem)}")
            starting = [NOT_READY] if isinstance(problem, NotReady) and self._readiness.scorer is None else []
            await self._answer(exchange, problem.status, orjson.dumps(_error(problem)), [*headers, *starting])
        except Exception as problem:
            await self._answer(exchange, 500, orjson.dumps({"error": f"unexpected: {told(problem)}"}), headers)
            raise

    async def _answer(self, exchange: Exchange, status: int, body: bytes, headers: Headers) -> None:
        """Count a prediction's answer, then send it: whoever has an answer finds it counted, whenever the process is killed."""
        if exchange.path.endswith("/infer"):
            self._usage.count(exchange.traffic, status, exchange.received, len(body))
        await exchange.answer(status, body, headers)

    async def _infer(self, exchange: Exchange, headers: Headers) -> None:
        scorer = self._scorer(exchange.path.removesuffix("/infer"))
        _allow(exchange, "POST")
        body = await exchange.json_body(self._settings.body_bytes)
        answer = await self._worker.run(lambda: scorer.answer(body))
        await self._answer(exchange, 200, answer.body, [*headers, (HEADER, answer.told)])
        if self._readiness.capture is not None and exchange.traffic not in NOBODYS:
            self._readiness.capture.offer(headers[2][1], body, answer.body)

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
        self._readiness.ready()
        return {"ready": True, "took_ms": self._readiness.took_ms}

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
