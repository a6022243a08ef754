"""The service over HTTP, as an ASGI application without a framework: one table of routes, and what every answer carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .answered import HEADER
from .board import Board
from .desk import Desk
from .doors import Call, Door, check_type
from .errors import ClientLeft, NotReady, Problem, TooSlow, WrongMethod, told
from .exchange import Exchange, Headers, Message, Receive, Send
from .readiness import Readiness
from .routes import Router, table
from .settings import ServiceSettings
from .worker import Worker


class App:
    """Answers every request: 200 in the form of its door, or `{"error": …}` in JSON with the status of its Problem."""

    def __init__(self, settings: ServiceSettings, readiness: Readiness, worker: Worker, board: Board | None = None) -> None:
        self.desk = Desk(settings, readiness, worker, board)
        self._router = Router(table(settings))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; nothing but a programming error is raised."""
        exchange = Exchange(scope, receive, send)
        headers = self.desk.marks(exchange.visit.request_id)
        door: Door | None = None
        try:
            route, path = self._router.find(exchange.path)
            door = route.door
            if door is not None:
                headers = headers + door.marks(exchange.headers, headers)
            if exchange.method not in route.methods:
                raise WrongMethod(f"the method must be {' or '.join(route.methods)}, not {exchange.method}", route.methods)
            if door is not None:
                await self._predict(exchange, door, path, headers)
            elif route.page is not None:
                reply = route.page(self.desk, path)
                await exchange.answer(200, reply.body, [*headers, *reply.headers], reply.content_type)
        except ClientLeft:
            return
        except Problem as problem:
            more = self.desk.refusal(problem, exchange.visit.request_id) + _headers_of(problem)
            await self._refuse(exchange, door, (problem.status, orjson.dumps(_error(problem))), headers + more)
        except Exception as problem:
            await self._refuse(exchange, door, (500, orjson.dumps({"error": f"unexpected: {told(problem)}"})), headers)
            raise
        finally:
            self.desk.let_go(exchange.visit)

    async def _predict(self, exchange: Exchange, door: Door, path: Mapping[str, str], headers: Headers) -> None:
        self.desk.model(path.get("model"), path.get("version"))
        check_type(exchange.headers, door.admit(exchange.headers))
        settings, visit = self.desk.settings, exchange.visit
        call = Call(await exchange.body(settings.body_bytes, settings.body_seconds, self.desk.hold), exchange.headers)
        reply = await self.desk.ask(door, call, visit, visit.deadline(settings.deadline_ms), exchange.alone)
        self.desk.count(visit, 200, len(reply.body))
        await exchange.answer(200, reply.body, [*headers, (HEADER, reply.told), *reply.headers], reply.content_type)
        self.desk.keep(visit, reply)

    async def _refuse(self, exchange: Exchange, door: Door | None, answer: tuple[int, bytes], headers: Headers) -> None:
        status, body = answer
        if door is not None:
            self.desk.count(exchange.visit, status, len(body))
        await exchange.answer(status, body, headers)


def _error(problem: Problem) -> dict[str, Any]:
    document: dict[str, Any] = {"error": str(problem)}
    return {"ready": False, **document} if isinstance(problem, NotReady) else document


def _headers_of(problem: Problem) -> Headers:
    """Return what HTTP wants beside a status."""
    if isinstance(problem, WrongMethod):
        return [(b"allow", ", ".join(problem.allowed).encode())]
    # the rest of the body, should it still come, is no request
    return [(b"connection", b"close")] if isinstance(problem, TooSlow) else []
