"""The scheduled drill: a region is lost on purpose, under load, and put back."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from fleet.errors import OperationFailed
from flows.drill_checks import DrillPlan
from flows.drill_results import FIGURES
from flows.drilling import DrillReport, drill, longest_ago
from flows.house import House
from flows.late_runs import drop_late_runs, missed_by
from flows.showing import markdown
from monitoring.drills import DrillOutcome

ACTOR = "failover_drill flow"
TOO_LATE = timedelta(minutes=10)
"""A drill belongs into the hours of its schedule: one that was missed is not made up whenever the stack comes back."""


def run_name() -> str:
    """Return what Prefect calls a run."""
    return f"failover-drill-{flow_run.parameters.get('region') or 'longest-ago'}"


@flow(
    name="failover_drill",
    flow_run_name=run_name,
    description="Kill one region's servers under load, measure what users notice, put the region back and prove it.",
)
def failover_drill(region: str | None = None, rate: float = 50.0, window_seconds: float = 5.0) -> str:
    """Drill a region, or the one drilled longest ago; `rate` is requests a second for each model, `window_seconds` see DrillPlan.

    Returns one line that says what was found, or that the schedule's drill was missed, which is not made up. Raises
    OperationFailed for a drill that did not pass, and Refused, Busy, UnknownName or NotSupported where nothing was done.
    """
    drop_late_runs()
    missed = missed_by(TOO_LATE)
    if missed is not None:
        return f"missed by {missed.total_seconds() / 60:.0f} minutes and not made up; drill by hand with `convoy drill`"
    house = House.open()
    house.ledger.verify()
    logger = get_run_logger()
    plan = DrillPlan(region or longest_ago(house, logger.info), rate, window_seconds)
    report = drill(house, plan, ACTOR, logger.info)
    markdown(as_markdown(report), key=f"drill-{report.region}", description=f"{report.drill} {report.outcome.value}")
    says = f"{report.drill} {report.outcome.value}: {'; '.join(report.reasons)}"
    if report.outcome is not DrillOutcome.PASSED:
        raise OperationFailed(f"region '{report.region}'", says, f"See `convoy ledger show --stream drill/{report.region}`.")
    return says


def as_markdown(report: DrillReport) -> str:
    """Return a drill's result for people: the reasons, then every figure model by model."""
    reasons = "\n".join(f"- {reason}" for reason in report.reasons)
    rows = [(words, *(figure(found) for found in report.models)) for words, figure in FIGURES.items()]
    head = [("", *(found.model for found in report.models)), ("---",) * (len(report.models) + 1)]
    figures = "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])
    when = f"Began {report.began.isoformat(timespec='milliseconds')}, with {report.rate:g} requests a second for each model."
    return f"# {report.outcome.value.capitalize()}: drill of {report.region} ({report.drill})\n\n{reasons}\n\n{when}\n\n{figures}\n"
