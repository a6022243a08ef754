"""The rollback: a new release whose target is a revision that was stable before."""

from __future__ import annotations

from prefect import flow, get_run_logger

from flows.house import House
from flows.release import release
from flows.rollback_request import ask_for


@flow(name="rollback", flow_run_name="rollback-{model}", description="Bring back the revision that was stable before, without a canary.")
def rollback(model: str, version: str | None = None) -> str:
    """Go back to the version that was stable before the present one, or to the given one, and release it at once.

    Raises InputError when no such version was ever stable.
    """
    house = House.open()
    house.ledger.verify()
    desire = ask_for(house, model, version, "rollback flow")
    get_run_logger().info("%s: going back to version %s (%s)", model, desire.version, desire.release)
    return release(model)
