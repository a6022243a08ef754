"""The service described to its callers: one OpenAPI 3.1 document of its own routes and the model's signature, and a page of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import orjson

from . import SERVICE_VERSION, schemas
from .desk import Desk
from .doors import Reply
from .page import page
from .pages import HTML
from .scorer import Scorer

if TYPE_CHECKING:
    from .routes import Route

CLOSED = [(b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")]
"""The page loads nothing and runs nothing."""
REFUSALS = {
    400: "The request is wrong; the error names the column and what is allowed.",
    406: "The answer cannot be given in a form that the caller accepts.",
    408: "The body did not arrive in time.",
    413: "The body is over the limit; it is refused unread where its length is announced.",
    415: "The body has another content type or is encoded.",
    500: "The model failed.",
    504: "The request's time was up before it was answered.",
}
NOT_READY = "The model does not answer yet, or too many requests are waiting: `retry-after` says in how many seconds to come back."


def openapi(desk: Desk, routes: Collection[Route]) -> Reply:
    """Return the OpenAPI document; raises NotReady while there is no model to describe."""
    return Reply(_document(desk, routes))


def docs(desk: Desk, routes: Collection[Route]) -> Reply:
    """Return the same as a page for people, without a script or anything from elsewhere; raises NotReady."""
    made = desk.document("docs", lambda: page(orjson.loads(_document(desk, routes))).encode())
    return Reply(made, HTML, CLOSED)


def _document(desk: Desk, routes: Collection[Route]) -> bytes:
    scorer = desk.model()
    return desk.document("openapi", lambda: orjson.dumps(described(scorer, desk.readiness.revision, routes)))


def described(scorer: Scorer, revision: str, routes: Collection[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the routes that ask this model."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": scorer.name,
            "version": scorer.version,
            "description": f"Version {scorer.version} of the model {scorer.name}, revision {revision}, service {SERVICE_VERSION}.",
        },
        "paths": {_path(route, scorer): _operations(route) for route in routes},
        "components": {
            "schemas": schemas.of_model(scorer),
            "headers": {name: {"schema": {"type": "string"}, "description": text} for name, text in HEADERS.items()},
        },
    }


HEADERS = {
    "x-convoy-revision": "The digest of what answered.",
    "x-convoy-region": "Where it answered.",
    "x-request-id": "The caller's id of the request, or one of our own.",
}


def _path(route: Route, scorer: Scorer) -> str:
    path = route.path.replace("{model}", schemas.quoted(scorer.name)).replace("{version}", schemas.quoted(scorer.version))
    # what a cloud named may hold braces, which OpenAPI keeps for its own
    return path.replace("{", "%7B").replace("}", "%7D")


def _operations(route: Route) -> dict[str, Any]:
    said: dict[str, Any] = {"summary": route.summary, "tags": [route.protocol]}
    if route.door is None:
        content = schemas.PAGES.get(route.path, {"application/json": {"schema": {"type": "object"}}})
        return {"get": said | {"responses": _responses(content, {503: NOT_READY})}}
    asked = schemas.DOORS[type(route.door).__name__]
    said |= {"requestBody": {"required": True, "content": asked.request}}
    return {"post": said | {"responses": _responses(asked.answer, REFUSALS | {503: NOT_READY})}}


def _responses(content: dict[str, Any], refusals: dict[int, str]) -> dict[str, Any]:
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in HEADERS}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    answers = {"200": {"description": "The answer.", "headers": headers, "content": content}}
    return answers | {str(status): {"description": text, "headers": headers, "content": error} for status, text in refusals.items()}
