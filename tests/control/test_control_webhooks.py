"""Only MLflow's own, fresh word is taken."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from control.webhooks import read_delivery
from fleet.errors import InputError, Refused

NOW = 1_800_000_000.0
BODY = {
    "entity": "model_version_alias",
    "action": "created",
    "timestamp": "2027-01-15T08:00:00Z",
    "data": {"name": "toy", "alias": "candidate", "version": "3"},
}


def signed(body: bytes, secret: str = "secret", delivery: str = "d-1", at: int = int(NOW)) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{delivery}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": str(at),
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_a_signed_fresh_delivery_is_read() -> None:
    body = json.dumps(BODY).encode()
    found = read_delivery(signed(body), body, "secret", NOW + 10)
    assert (found.id, found.message.data.version) == ("d-1", "3")


@pytest.mark.parametrize("headers", [{}, {"x-mlflow-signature": "v1,"}, {"x-mlflow-delivery-id": "d", "x-mlflow-timestamp": str(int(NOW))}])
def test_an_unsigned_delivery_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refused, match="signature is not ours"):
        read_delivery(headers, json.dumps(BODY).encode(), "secret", NOW)


def test_a_delivery_signed_with_another_secret_or_changed_on_its_way_is_refused() -> None:
    body = json.dumps(BODY).encode()
    with pytest.raises(Refused):
        read_delivery(signed(body, secret="guess"), body, "secret", NOW)
    with pytest.raises(Refused):
        read_delivery(signed(body), body.replace(b'"3"', b'"4"'), "secret", NOW)
    with pytest.raises(Refused):
        read_delivery(signed(body) | {"x-mlflow-delivery-id": "d-2"}, body, "secret", NOW)


def test_an_old_delivery_is_refused() -> None:
    body = json.dumps(BODY).encode()
    with pytest.raises(Refused, match="more than 300 seconds ago"):
        read_delivery(signed(body), body, "secret", NOW + 301)


def test_a_signed_body_of_another_kind_is_wrong_input() -> None:
    with pytest.raises(InputError, match="not an alias event"):
        read_delivery(signed(b"{}"), b"{}", "secret", NOW)
