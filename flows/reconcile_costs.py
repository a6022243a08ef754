"""The costs: bills from what was measured, split without a remainder, compared with what was expected."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from clouds.billing import Bill
from flows.costing import Done, Gathered, Settled, gather, settle_apart, write_report
from flows.house import House
from flows.late_runs import drop_late_runs
from flows.retrying import on_transient
from flows.showing import table
from monitoring.costs.deviations import plain

ACTOR = "reconcile_costs flow"


@flow(
    name="reconcile_costs", description="Write the regions' bills, split them to the last digit, and tell what deviates from the forecast."
)
def reconcile_costs() -> list[str]:
    """Reconcile every bill that is not reconciled yet; returns what each period came to.

    Closed hours are recorded for good, the hour that goes on as it stands. A bill that cannot be read, is gone or was
    changed after it was closed, or whose parts do not sum to it, holds up its region alone: the others are recorded first, then
    this raises InputError or IntegrityError.
    """
    drop_late_runs()
    house = House.open()
    house.ledger.verify()
    gathered = write_bills(house)
    for reason in gathered.without:
        get_run_logger().info("no bill: %s", reason)
    done = [reconcile_bills(house, bills) for bills in gathered.groups]
    told = [tell(house, settled) for one in done for settled in one.settled]
    problems = [*gathered.problems, *(problem for one in done for problem in one.problems)]
    for problem in problems:
        get_run_logger().error("not reconciled: %s", problem)
    if problems:
        raise problems[0]
    return told


@task(cache_policy=NO_CACHE, **on_transient)
def write_bills(house: House) -> Gathered:
    """Bring the bills up to date and return those to reconcile."""
    return gather(house, datetime.now(UTC))


@task(cache_policy=NO_CACHE, **on_transient)
def reconcile_bills(house: House, bills: tuple[Bill, ...]) -> Done:
    """Reconcile bills and record it."""
    return settle_apart(house, bills, ACTOR)


@task(cache_policy=NO_CACHE)
def tell(house: House, settled: Settled) -> str:
    """Write the report, show the deviations and log them; returns what it came to."""
    file = write_report(house, settled)
    rows = [
        {
            "model": found.place[1],
            "region": found.place[2],
            "cost": f"{plain(found.cost)} {found.place[0]}",
            "forecast": "none" if found.forecast is None else plain(found.forecast),
            "difference": "" if found.difference is None else plain(found.difference),
            "outcome": found.outcome.value,
        }
        for found in settled.reconciliation.comparisons
    ]
    link = f"{house.stack.control_url}/reports/costs/{file.name}"
    table(rows, key="costs", description=f"{settled.sentence}. The whole report: {link}")
    for found in settled.reconciliation.deviations:
        get_run_logger().warning("%s in %s: %s", found.place[1], found.place[2], found.reason)
    get_run_logger().info("%s", settled.sentence)
    return settled.sentence
