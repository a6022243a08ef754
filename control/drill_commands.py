"""`convoy drill`: a region is lost on purpose, in this process, while a person looks on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import asdict

from rich.markup import escape

from control.printing import out, print_json, print_table, progress
from fleet.errors import Busy, ConvoyError, ExitCode, InputError
from flows.drill_checks import DrillCheck, DrillPlan, check, demand_quiet, told
from flows.drill_requests import requests_for
from flows.drill_results import FIGURES
from flows.drilling import DrillReport, drill
from flows.house import House
from monitoring.drills import DrillOutcome

ACTOR = "convoy command"


def run(plan: DrillPlan, as_json: bool) -> ExitCode:
    """Drill a region and print what was found; exit 2 where it was refused and nothing was done.

    Whoever ends it with SIGINT or SIGTERM gets the region back first.
    """
    house = House.open()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
    refusals = [*what.refusals, *_problems(house, what, plan)]
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


def _problems(house: House, what: DrillCheck, plan: DrillPlan) -> Iterator[str]:
    """Yield what else would keep a drill from beginning."""
    try:
        demand_quiet(house, what)
    except Busy as problem:
        yield problem.reason
    for victim in what.victims:
        try:
            requests_for(house, victim.revision, plan.region)
        except ConvoyError as problem:
            yield f"{problem.subject} {problem.reason}"


def _refused(problem: ConvoyError) -> InputError:
    """Return a busy region as what it is to whoever typed the command: a request that was refused."""
    return InputError(problem.subject, problem.reason, problem.remedy)


def _show(report: DrillReport) -> None:
    rows = [(words, *(escape(figure(found)) for found in report.models)) for words, figure in FIGURES.items()]
    print_table(escape(f"Drill of {report.region}: {report.drill}"), ("", *(escape(found.model) for found in report.models)), rows)
    out.print(f"[bold]{report.outcome.value}[/]")
    for reason in report.reasons:
        out.print(f"  {reason}", markup=False)
