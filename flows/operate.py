"""Operate: a person's command to a release under way, given in Prefect's UI."""

from __future__ import annotations

from prefect import flow, get_run_logger
from pydantic import SecretStr

from fleet.commands import Command
from flows.form import forget_parameters, pass_of
from flows.house import House
from flows.operating import Wish
from flows.operating import operate as record

DOOR = "operate flow"


@flow(name="operate", flow_run_name="{command}-{model}", description="Pause, resume, extend, promote, abort, approve or deny a release.")
def operate(
    model: str,
    command: Command,
    reason: str,
    token: SecretStr,
    seconds: int | None = None,
    release: str | None = None,
    digest: str | None = None,
) -> str:
    """Record the command in the ledger, where the release reads it at its next tick; returns one line that says so.

    `token` is a pass (`convoy operator pass MODEL COMMAND`): Prefect keeps parameters as they were typed, so an
    operator's own token is refused here. `seconds` goes with extend. Raises InputError or Refused where nothing was done.
    """
    forget_parameters("token")
    house = House.open()
    wish = Wish(model, Command(command).value, reason, seconds, release, digest)
    done = record(house, wish, pass_of(house, token), DOOR)
    get_run_logger().info("%s: %s %s; %s", done.release, done.order.command, done.order.by, done.says)
    return f"{done.release}: {done.order.command} {done.says}"
