"""The scheduled drill: a region is lost on purpose, under load, and put back."""

from __future__ import annotations

from dataclasses import asdict

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from fleet.errors import OperationFailed
from flows.drill_checks import DrillPlan
from flows.drilling import DrillReport, drill, longest_ago
from flows.house import House
from monitoring.drills import DrillOutcome

ACTOR = "failover_drill flow"


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

    Returns one line that says what was found. Raises OperationFailed for a drill that did not pass, and Refused, Busy,
    UnknownName or NotSupported where nothing was done.
    """
    house = House.open()
    house.ledger.verify()
    logger = get_run_logger()
    plan = DrillPlan(region or longest_ago(house, logger.info), rate, window_seconds)
    report = drill(house, plan, ACTOR, logger.info)
    show(report)
    says = f"{report.drill} {report.outcome.value}: {'; '.join(report.reasons)}"
    if report.outcome is not DrillOutcome.PASSED:
        raise OperationFailed(f"region '{report.region}'", says, f"See `convoy ledger show --stream drill/{report.region}`.")
    return says


def show(report: DrillReport) -> None:
    """Show the result as an artifact, or log that it could not be shown."""
    try:
        create_markdown_artifact(
            as_markdown(report), key=f"drill-{report.region}", description=f"Failover drill {report.drill}: {report.outcome.value}"
        )
    except Exception as problem:  # noqa: BLE001 - Prefect's client raises what its transport does
        get_run_logger().warning("an artifact could not be written: %s: %s", type(problem).__name__, problem)


def as_markdown(report: DrillReport) -> str:
    """Return a drill's result for people: the reasons, then every figure model by model."""
    reasons = "\n".join(f"- {reason}" for reason in report.reasons)
    figures = [asdict(found) for found in report.models]
    names = [name for name in (figures[0] if figures else {}) if name != "model"]
    rows = [(name.replace("_", " "), *(_cell(found[name]) for found in figures)) for name in names]
    head = [("", *(str(found["model"]) for found in figures)), ("---",) * (len(figures) + 1)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])
    when = f"Began {report.began.isoformat(timespec='milliseconds')}; {report.rate:g} requests a second and model; times in seconds."
    return f"# {report.outcome.value.capitalize()}: drill of {report.region} ({report.drill})\n\n{reasons}\n\n{when}\n\n{table}\n"


def _cell(value: object) -> str:
    return "not seen" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
