"""`convoy drill`: a region is lost on purpose, in this process, while a person looks on."""

from __future__ import annotations

from dataclasses import asdict

from rich.markup import escape

from control.printing import out, print_json, print_table, progress
from fleet.errors import Busy, ConvoyError, ExitCode, InputError
from flows.drill_checks import DrillPlan, check, demand_quiet, told
from flows.drilling import DrillReport, drill
from flows.house import House
from monitoring.drills import DrillOutcome

ACTOR = "convoy command"


def run(plan: DrillPlan, as_json: bool) -> ExitCode:
    """Drill a region and print what was found; exit 2 where it was refused and nothing was done."""
    house = House.open()
    try:
        report = drill(house, plan, ACTOR, lambda text: progress.print(f"  {text}", markup=False))
    except Busy as problem:
        raise _refused(problem) from problem
    if as_json:
        print_json({**asdict(report), "outcome": report.outcome.value})
    else:
        _show(report)
    return ExitCode.DONE if report.outcome is DrillOutcome.PASSED else ExitCode.FAILED


def rehearse(plan: DrillPlan, as_json: bool) -> ExitCode:
    """Print what a drill would break and whether it would be refused now; nothing is done."""
    house = House.open()
    house.ledger.verify()
    what = check(house, plan.region)
    refusals = list(what.refusals)
    try:
        demand_quiet(house, what)
    except Busy as problem:
        refusals.append(problem.reason)
    if as_json:
        models = {each.revision.model: {"digest": each.revision.digest, "survivors": list(each.survivors)} for each in what.victims}
        print_json({"region": plan.region, "models": models, "rate": plan.rate, "refusals": refusals})
    else:
        for victim in what.victims:
            out.print(f"would kill {told(victim)}", markup=False)
        for reason in refusals:
            out.print(f"[yellow]refused[/]: {escape(reason)}")
        if not refusals:
            out.print(f"Under {plan.rate:g} requests a second for each model. Nothing was done.")
    return ExitCode.BAD_INPUT if refusals else ExitCode.DONE


def _refused(problem: ConvoyError) -> InputError:
    """Return a busy region as what it is to whoever typed the command: a request that was refused."""
    return InputError(problem.subject, problem.reason, problem.remedy)


def _show(report: DrillReport) -> None:
    rows = [
        (
            escape(found.model),
            f"{found.failed} of {found.sent}",
            "not counted" if found.bad_attempts is None else f"{found.bad_attempts} ({found.rescued} rescued)",
            *(_seconds(value) for value in (found.served_again, found.said, found.back, found.routed)),
            str(found.releases_behind),
        )
        for found in report.models
    ]
    columns = ("model", "failed requests", "failed attempts", "served again", "Convoy said so", "ready again", "routed again", "RPO")
    print_table(escape(f"Drill of {report.region}: {report.drill}"), columns, rows)
    out.print(f"[bold]{report.outcome.value}[/]")
    for reason in report.reasons:
        out.print(f"  {reason}", markup=False)


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.2f} s"
