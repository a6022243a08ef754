"""Approval: asks in Prefect's UI, by a suspended run, whether a release may have traffic."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from prefect import flow, get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, delete_flow_run_input
from pydantic import SecretStr

from flows.desires import desires
from flows.form import pass_of
from flows.house import House
from flows.operating import Wish, operate
from flows.parking import parked

DOOR = "approval flow"
KEY = "approval"
TYPED = f"suspended-{KEY}-response"
"""Under which name Prefect keeps what was typed."""


class Answer(RunInput):
    """What a person answers; the token is a pass for just this answer, `convoy operator pass MODEL approve`."""

    answer: Literal["approve", "deny"]
    reason: str
    token: SecretStr


@flow(name="approval", flow_run_name="approve-{release}", description="A person says whether a release may have traffic: resume it.")
def approval(model: str, release: str, digest: str, until: datetime) -> str:
    """Wait, suspended and without a process, until somebody resumes the run with an answer, and record that.

    The ledger has the answer, and this is one door of several: with the run lost or cancelled, nothing is. A wrong answer
    fails the run and changes nothing; `reconcile` lays a new one on the desk. Raises InputError or Refused then.
    """
    house = House.open()
    if not any(parked(house, desire) for desire in desires(house.ledger, model) if desire.release == release):
        return f"{release} does not wait for an answer any more"
    asked = Answer.with_initial_data(description=question(model, release, digest, until))
    left = max(1, int((until - datetime.now(UTC)).total_seconds()))
    answer = suspend_flow_run(wait_for_input=asked, timeout=left, key=KEY)
    try:
        wish = Wish(model, answer.answer, answer.reason, release=release, digest=digest)
        done = operate(house, wish, pass_of(house, answer.token), DOOR)
    finally:
        delete_flow_run_input(TYPED)
    get_run_logger().info("%s: %s %s; %s", done.release, done.order.command, done.order.by, done.says)
    return f"{done.release}: {done.order.command} {done.says}"


def question(model: str, release: str, digest: str, until: datetime) -> str:
    """Return what a person is asked."""
    return (
        f"**May {release} have traffic?** Model `{model}`, revision `{digest}`, until {until:%Y-%m-%d %H:%M} UTC.\n\n"
        f"Paste as token what `convoy operator pass {model} approve` (or `deny`) prints: it is good once, for this answer."
    )
