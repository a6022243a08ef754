"""Runs a deployment now, as Prefect would on its schedule, and waits for how it ends."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from pydantic import TypeAdapter

from control.stack.components import Site
from control.stack.prefect_server import Answer, ask, known_deployments
from fleet.errors import OperationFailed, UnknownName

POLL_SECONDS = 0.5
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class State(Answer):
    """A run's state; `message` is Prefect's, or the flow's own last word."""

    type: str
    message: str | None = None


class Run(Answer):
    """A run as Prefect knows it."""

    id: str
    name: str
    state: State


def run_now(site: Site, deployment: str, parameters: Mapping[str, str | float], seconds: float) -> Run:
    """Have the runner take one run of a deployment and return it once it has completed.

    Raises UnknownName for a deployment that Prefect does not have, OperationFailed for a run that fails or does not end
    within `seconds`.
    """
    known = {each.name: each.id for each in known_deployments(site)}
    if deployment not in known:
        raise UnknownName(f"deployment '{deployment}'", f"Prefect has {', '.join(sorted(known)) or 'none'}", "Run `convoy up`.")
    # With the key, a request that is asked again makes no second run
    wish = {"parameters": dict(parameters), "idempotency_key": str(uuid.uuid4())}
    run = _read(ask(site, "POST", f"/deployments/{known[deployment]}/create_flow_run", wish).content)
    subject, deadline = f"run {run.name} of {deployment}", time.monotonic() + seconds
    while run.state.type not in ENDED:
        if time.monotonic() > deadline:
            raise OperationFailed(
                f"run {run.name} of {deployment}", f"is {run.state.type} after {seconds:.0f} s", "See it in Prefect's UI."
            )
        time.sleep(POLL_SECONDS)
        run = _read(ask(site, "GET", f"/flow_runs/{run.id}").content)
    if run.state.type != "COMPLETED":
        raise OperationFailed(subject, f"{run.state.type}: {run.state.message}", "See its logs in Prefect's UI.")
    return run


def _read(content: bytes) -> Run:
    return TypeAdapter(Run).validate_json(content)
