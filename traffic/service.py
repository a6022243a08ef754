"""The agent's HTTP interface: what a controller may ask of an edge, with a bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Protocol

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet.about import VERSION
from fleet.errors import ConvoyError, InputError, Refused
from fleet.evidence import Attempts
from traffic.keeper import Keeper
from traffic.table import RoutingTable, table_from_json
from traffic.wire import attempts_to_json, problem_to_json

LARGEST_TABLE = 1 << 20
STALE = 409
Verb = Callable[[Request, bytes], bytes]


class AttemptSource(Protocol):
    """Where the counts of attempts come from."""

    def attempts(self, model: str, since: int, until: int) -> Attempts:
        """Return the counts of the seconds from `since` up to, not including, `until`."""
        ...


class AgentService:
    """The endpoints of one edge's agent; the keeper's errors travel as JSON with their class."""

    def __init__(self, edge: str, token: str, keeper: Keeper, source: AttemptSource) -> None:
        self._edge = edge
        self._token = token.encode()
        self._keeper = keeper
        self._source = source

    def application(self) -> Starlette:
        """Return the ASGI application; every path but /health wants the token."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/state", self._guarded(self.state)),
                Route("/attempts", self._guarded(self.attempts)),
                Route("/tables/{model}/prepare", self._guarded(self.prepare), methods=["PUT"]),
                Route("/tables/{model}/safe", self._guarded(self.take_safe_shares), methods=["PUT"]),
                Route("/tables/{model}", self._guarded(self.apply), methods=["PUT"]),
            ],
            exception_handlers={ConvoyError: _told},
        )

    def health(self, _request: Request) -> Response:
        """Answer 200 when the edge's Envoy serves, else 503; with the version of Convoy that the agent runs."""
        ready = self._keeper.ready()
        return _json(orjson.dumps({"edge": self._edge, "envoy_ready": ready, "version": VERSION}), 200 if ready else 503)

    def state(self, _request: Request, _body: bytes) -> bytes:
        """Return every model's table and what Envoy reports about it."""
        return self._keeper.state().to_json()

    def attempts(self, request: Request, _body: bytes) -> bytes:
        """Return a model's counts of attempts."""
        model, since, until = _query(request, "model"), _number(request, "from"), _number(request, "to")
        return attempts_to_json(self._source.attempts(model, since, until))

    def prepare(self, request: Request, body: bytes) -> bytes:
        """Warm a table's backends."""
        table = _table(request, body)
        self._keeper.prepare(table)
        return orjson.dumps({"prepared": f"{table.epoch}.{table.version}"})

    def apply(self, request: Request, body: bytes) -> bytes:
        """Put a table in force."""
        return self._keeper.apply(_table(request, body)).to_json()

    def take_safe_shares(self, request: Request, _body: bytes) -> bytes:
        """Put a model's safe shares in force."""
        return self._keeper.take_safe_shares(request.path_params["model"], _number(request, "epoch")).to_json()

    def _guarded(self, verb: Verb) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            if not self._authorised(request):
                refusal = Refused("token", "is missing or wrong", "Send `Authorization: Bearer` and the edge's token.")
                return _json(problem_to_json(refusal), 401)
            body = await _bounded(request)
            return _json(await run_in_threadpool(verb, request, body))

        return endpoint

    def _authorised(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), self._token)


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_TABLE:
            raise InputError("request", f"is larger than {LARGEST_TABLE} bytes")
    return bytes(body)


def _table(request: Request, body: bytes) -> RoutingTable:
    table = table_from_json(body)
    if table.model != request.path_params["model"]:
        raise InputError("routing table", f"is of model '{table.model}', the path says '{request.path_params['model']}'")
    return table


def _query(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if value is None:
        raise InputError("query", f"lacks the parameter '{name}'")
    return value


def _number(request: Request, name: str) -> int:
    value = _query(request, name)
    if not value.isascii() or not value.isdecimal():
        raise InputError("query", f"the parameter '{name}' must be a whole number (found '{value}')")
    return int(value)


async def _told(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ConvoyError)
    return _json(problem_to_json(error), STALE if isinstance(error, Refused) else error.http_status)


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
