"""Monitor drift: every quarter of an hour, what each model answered is held against what it learned from."""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.errors import ConvoyError
from flows.drifting import Finding, measure_drift, report_url, watched
from flows.house import House
from flows.late_runs import drop_late_runs
from flows.retrying import on_transient
from flows.showing import markdown
from monitoring.drift import DriftOutcome

ACTOR = "monitor_drift flow"


@flow(name="monitor_drift", description="Hold the rows that each model answered against the rows it learned from.")
def monitor_drift(model: str | None = None) -> list[str]:
    """Measure one model, or all that declare drift; returns one line for each.

    One model's trouble does not keep the others: all are measured, then the first error is raised.
    """
    drop_late_runs()
    house = House.open()
    house.ledger.verify()
    said: list[str] = []
    problems: list[Exception] = []
    for name in [model] if model is not None else watched(house):
        try:
            finding = measured(house, name)
            show(house, finding)
            said.append(f"{name}: {finding.verdict.outcome.value}")
        except Exception as problem:  # noqa: BLE001 - raised once the others are measured
            # the text of an error that is not ours may quote what a caller sent
            why = problem if isinstance(problem, ConvoyError) else type(problem).__name__
            get_run_logger().error("%s: %s; measured again in a quarter of an hour", name, why)
            problems.append(problem)
    if problems:
        raise problems[0]
    return said


@task(cache_policy=NO_CACHE, **on_transient)
def measured(house: House, model: str) -> Finding:
    """Measure a model's window that ends now, judge it, and record it."""
    finding = measure_drift(house, model, ACTOR)
    tell = get_run_logger().warning if finding.verdict.outcome is DriftOutcome.DRIFTED else get_run_logger().info
    tell("%s: %s; %s", model, finding.verdict.outcome.value, finding.verdict.reasons[0])
    return finding


def show(house: House, finding: Finding) -> None:
    """Show the verdict as an artifact of the run."""
    description = f"Drift of {finding.model}: {finding.verdict.outcome.value}"
    markdown(page(finding, report_url(house, finding)), key=f"drift-{finding.model}".lower().replace("_", "-"), description=description)


def page(finding: Finding, url: str | None) -> str:
    """Return the verdict with its reasons, the way to Evidently's report, and the columns, in Markdown."""
    reasons = "\n".join(f"- {reason}" for reason in (*finding.verdict.reasons, *finding.remarks))
    link = f"[Evidently's report]({url})" if url else "Nothing was compared, so there is no report."
    return f"# {finding.verdict.outcome.value.capitalize()}: {finding.model}\n\n{reasons}\n\n{link}\n\n{columns_table(finding)}\n"


def columns_table(finding: Finding) -> str:
    """Return the columns as a table in Markdown, the greatest index first, with Evidently's score beside it."""
    scores = {score.column: score for score in finding.scores}
    lines = ["| column | index | by chance | drifted | Evidently |", "|---|---|---|---|---|"]
    for found in finding.measured.columns:
        score = scores.get(found.column)
        other = f"{score.score} by {score.method}" + (" (drifted)" if score.drifted else "") if score else "no opinion"
        name = found.column.replace("|", "\\|")
        lines.append(f"| {name} | {found.psi} | {found.by_chance} | {'yes' if found.drifted(finding.policy.psi) else 'no'} | {other} |")
    return "\n".join(lines) if finding.measured.columns else ""
