"""Who built a model version: a claim of an operator, made with the own token over the version's very files.

MLflow takes any name for a run's user, so what it says of a builder proves nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from fleet.operators import Operators

TAG = "convoy.builder"
"""The MLflow tag of a model version that holds the claim."""
PURPOSE = "convoy-builder"


@dataclass(frozen=True, slots=True)
class Built:
    """What somebody built: a version of a model, and the digest of its files as logged."""

    model: str
    version: str
    digest: str


def claim(operator: str, token: str, built: Built) -> str:
    """Return the claim of an operator, as text for the tag."""
    return f"{operator}:{_seal(token, built)}"


def builder_of(operators: Operators, text: str, built: Built) -> str | None:
    """Return whose claim a text is, None for one of nobody who is known, of other files or of another version."""
    name, _, seal = text.partition(":")
    token = operators.tokens.get(name)
    return name if token is not None and hmac.compare_digest(_seal(token, built).encode(), seal.encode()) else None


def _seal(token: str, built: Built) -> str:
    told = "\n".join((PURPOSE, built.model, built.version, built.digest))
    return hmac.new(token.encode(), told.encode(), hashlib.sha256).hexdigest()
