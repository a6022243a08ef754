"""Checks that a webhook really comes from our MLflow server, now, and for the first time.

The signature is MLflow's: `v1,` and the base64 HMAC-SHA256 over `<delivery id>.<timestamp>.<body>`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.errors import InputError, Refused

FRESH_SECONDS = 300
MOST_BYTES = 64 * 1024
DELIVERY, TIMESTAMP, SIGNATURE = "x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"


class TooLarge(Refused):
    """More than any webhook has to say; read no further."""

    http_status = 413


class AliasData(BaseModel):
    """The alias that was set."""

    model_config = ConfigDict(frozen=True)

    name: str
    alias: str
    version: str


class AliasSet(BaseModel):
    """The body of MLflow's webhook for `model_version_alias.created`."""

    model_config = ConfigDict(frozen=True)

    entity: str
    action: str
    data: AliasData


@dataclass(frozen=True, slots=True)
class Delivery:
    """One authentic message and its id, which MLflow keeps when it tries again."""

    id: str
    message: AliasSet


async def read_bounded(chunks: AsyncIterator[bytes]) -> bytes:
    """Return a body that anybody may have sent; raises TooLarge as soon as it is more than 64 KiB."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MOST_BYTES:
            raise TooLarge("webhook", f"is larger than {MOST_BYTES} bytes", "Let MLflow deliver it.")
    return bytes(body)


def read_delivery(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> Delivery:
    """Return an authentic, fresh delivery.

    Raises Refused for a missing or wrong signature and for one older than five minutes, InputError for a body that is
    signed but not an alias event.
    """
    delivery, timestamp, signature = (headers.get(name, "") for name in (DELIVERY, TIMESTAMP, SIGNATURE))
    signed = f"{delivery}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    if not delivery or not hmac.compare_digest(expected.encode(), signature.encode()):
        raise Refused("webhook", "its signature is not ours", "Let MLflow deliver it; the secret is made by `convoy up`.")
    if not timestamp.isdigit() or abs(now - int(timestamp)) > FRESH_SECONDS:
        raise Refused(
            "webhook", f"it was signed more than {FRESH_SECONDS} seconds ago", "Set the alias again; reconcile sees it within a minute."
        )
    try:
        return Delivery(delivery, AliasSet.model_validate_json(body))
    except ValidationError as problem:
        raise InputError(
            "webhook", f"is not an alias event ({problem.error_count()} problems)", "Subscribe to model_version_alias.created only."
        ) from problem
