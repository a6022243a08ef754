"""`convoy drift`: has what a model answers moved away from what it learned from?"""

from __future__ import annotations

from rich.markup import escape

from control.printing import out, print_json, print_table
from fleet.settings import silence_telemetry
from flows.drifting import Finding, measure_drift, report_url
from flows.house import House
from monitoring.drift import ColumnDrift, DriftOutcome

ACTOR = "convoy command"
COLOURS = {DriftOutcome.STABLE: "green", DriftOutcome.DRIFTED: "red", DriftOutcome.NOT_ENOUGH_DATA: "yellow"}


def show_drift(model: str, as_json: bool) -> None:
    """Measure a model's drift now, as the scheduled flow does, and print the verdict column by column.

    Drift is a finding and no failure: whatever the verdict, the command succeeds once it has one.
    """
    # Evidently would call home
    silence_telemetry()
    house = House.open()
    house.ledger.verify()
    finding = measure_drift(house, model, ACTOR)
    if as_json:
        print_json({"model": model, **finding.figures(), "report_url": report_url(house, finding)})
        return
    outcome = finding.verdict.outcome
    out.print(f"{escape(model)}: [bold {COLOURS[outcome]}]{outcome.value}[/]")
    for line in (*finding.verdict.reasons, *finding.remarks):
        out.print(f"  {line}", markup=False)
    if finding.measured.columns:
        _print_columns(finding)
    if finding.report is not None:
        out.print(f"Report: {report_url(house, finding)}", markup=False)


def _print_columns(finding: Finding) -> None:
    regions = [region for region, _ in finding.measured.rows]
    scores = {score.column: score for score in finding.scores}
    rows = []
    for found in finding.measured.columns:
        score, there = scores.get(found.column), dict(found.regions)
        opinion = f"{score.score}{' drifted' if score.drifted else ''}" if score else "-"
        verdict = _word(found, finding)
        per_region = [str(there.get(region, "-")) for region in regions]
        rows.append([escape(found.column), str(found.psi), str(found.by_chance), verdict, *per_region, opinion])
    title = f"Population stability index, limit {finding.policy.psi}"
    print_table(title, ("column", "index", "by chance", "verdict", *(escape(region) for region in regions), "Evidently"), rows)


def _word(found: ColumnDrift, finding: Finding) -> str:
    if found.drifted(finding.policy.psi):
        return "[red]drifted[/]"
    return "by chance?" if found.undecided(finding.policy.psi) else "stable"
