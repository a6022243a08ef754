"""Telling Prefect that a model needs its release flow; reconcile finds out by itself, within a minute."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import httpx

from fleet.errors import Unreachable
from flows.house import House

EVENT = "convoy.candidate.set"


def announce(house: House, model: str, version: str) -> None:
    """Emit the event that starts the release flow; raises Unreachable when Prefect did not take it."""
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENT,
        "resource": {"prefect.resource.id": f"convoy.model.{model}", "prefect.resource.name": model},
        "payload": {"model": model, "version": version},
    }
    url = f"{house.stack.prefect_url}/api/events"
    try:
        answer = httpx.post(url, json=[event], timeout=5.0, trust_env=False)
    except httpx.TransportError as problem:
        raise Unreachable("Prefect", f"does not answer at {url} ({type(problem).__name__})", "Run `convoy up`.") from problem
    if not answer.is_success:
        raise Unreachable("Prefect", f"answered {answer.status_code} to the event {EVENT}", "Look at its log.")
