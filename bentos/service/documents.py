"""Bodies in JSON, read as the objects that they must be."""

from __future__ import annotations

from typing import Any

import orjson

from .errors import BadRequest


def parsed_object(body: bytes, otherwise: str = "the body must be a JSON object") -> dict[str, Any]:
    """Return a body's object; raises BadRequest, which says `otherwise` of JSON that is no object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f"the body is not JSON ({problem})") from problem
    if not isinstance(document, dict):
        raise BadRequest(otherwise)
    return document
