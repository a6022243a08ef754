"""Check golden: every quarter of an hour, what serves is asked for its golden answers in each region."""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.errors import ConvoyError, LedgerBroken
from flows.gate_report import report
from flows.golden_checks import Checked, check, watched
from flows.house import House
from flows.late_runs import drop_late_runs
from flows.retrying import on_transient
from flows.showing import markdown

ACTOR = "check_golden flow"


@flow(name="check_golden", description="Ask what serves for its golden answers, in each region.")
def check_golden(model: str | None = None) -> list[str]:
    """Ask one model, or all that declare golden answers; returns one line for each.

    One model's trouble does not keep the others: all are asked, then the first error is raised.
    """
    drop_late_runs()
    house = House.open()
    house.ledger.verify()
    said: list[str] = []
    problems: list[ConvoyError] = []
    for name in [model] if model is not None else watched(house):
        try:
            found = asked_again(house, name)
            show(found)
            said.append(f"{name}: {line(found)}")
        except LedgerBroken:
            raise
        except ConvoyError as problem:
            get_run_logger().error("%s: %s; asked again in a quarter of an hour", name, problem)
            problems.append(problem)
    if problems:
        raise problems[0]
    return said


@task(cache_policy=NO_CACHE, **on_transient)
def asked_again(house: House, model: str) -> Checked:
    """Ask every region for a model's golden answers, record a change, and tell of whoever answers otherwise."""
    found = check(house, model, ACTOR)
    for region, result in found.different.items():
        get_run_logger().error("%s in %s: %s", model, region, "; ".join(result.reasons))
    for region, why in found.away.items():
        get_run_logger().warning("%s in %s was not asked: %s", model, region, why)
    return found


def line(found: Checked) -> str:
    """Return in one line what came of it."""
    if found.without:
        return f"not asked: {found.without}"
    same = [region for region in found.results if region not in found.different]
    told = (("reproduced in", same), ("different in", list(found.different)), ("not asked in", list(found.away)))
    return "; ".join(f"{word} {', '.join(regions)}" for word, regions in told if regions)


def show(found: Checked) -> None:
    """Show what came of it as an artifact of the run, where anybody was asked."""
    if found.results:
        key = f"golden-{found.model}".lower().replace("_", "-")
        text = report(f"{found.model}: golden answers of what serves", tuple(found.results.values()))
        markdown(text, key=key, description=f"Golden answers of {found.model}: {line(found)}")
