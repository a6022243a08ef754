"""What every door does with a wish: check it, set the alias, record it, and wake the flow."""

from __future__ import annotations

import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx

from fleet.errors import InputError, Unreachable
from flows.desires import CANDIDATE, Desire, ask_again, desires, observe_candidate, phase_of
from flows.house import House
from flows.rollback_request import ask_for

EVENT = "convoy.candidate.set"


def request_release(house: House, model: str, version: str, again: bool, actor: str) -> Desire:
    """Want a version: the alias is set, the desire opened and the flow woken; returns the desire.

    Raises UnknownName for an unknown model or version and InputError for a version without a schema or one that was
    tried already, before anything is changed.
    """
    check_version(house, model, version)
    last = desires(house.ledger, model)[-1:]
    if last and last[0].version == version and house.models.alias(model, CANDIDATE) == version and not again:
        phase = phase_of(house.ledger, last[0].release)
        if phase.terminal:
            raise InputError(f"model '{model}' version {version}", f"was released already: {phase.value}", "Use --again to try it again.")
        return woken(house, last[0])
    house.models.set_alias(model, CANDIDATE, version)
    opened = observe_candidate(house.ledger, model, version, actor)
    if opened is None and again:
        opened = ask_again(house.ledger, model, version, actor)
    return woken(house, opened or desires(house.ledger, model)[-1])


def request_rollback(house: House, model: str, version: str | None, actor: str) -> Desire:
    """Want an earlier stable version back; returns the desire."""
    ask_for(house, model, version, actor)
    return woken(house, desires(house.ledger, model)[-1])


def check_version(house: House, model: str, version: str) -> None:
    """Raise unless the model is declared, the version is registered and its model file has a schema."""
    house.model(model)
    found = house.models.version(model, version)
    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        house.models.download(found, Path(folder) / "model")
        schema = house.models.schema(Path(folder) / "model")
    if schema is None:
        raise InputError(
            f"model '{model}' version {version}",
            "has no schema, so nobody could check what it is asked",
            "Log it with signature=mlflow.models.infer_signature(inputs, outputs).",
        )


def woken(house: House, desire: Desire) -> Desire:
    """Tell Prefect about a desire; when Prefect is away, reconcile finds it within a minute."""
    try:
        announce(house, desire.model, desire.version)
    except Unreachable:
        return desire
    return desire


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
        answer = httpx.post(url, json=[event], timeout=5.0)
    except httpx.TransportError as problem:
        raise Unreachable("Prefect", f"does not answer at {url} ({type(problem).__name__})", "Run `convoy up`.") from problem
    if not answer.is_success:
        raise Unreachable("Prefect", f"answered {answer.status_code} to the event {EVENT}", "Look at its log.")
