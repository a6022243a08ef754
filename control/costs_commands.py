"""`convoy costs`: what serving cost, split to the last digit and held against what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from control.printing import out, print_json, print_table
from fleet.declared import Costs
from fleet.errors import ConvoyError, InputError
from flows.costing import Settled, gather, settle_apart, summary, write_report
from flows.house import House
from monitoring.costs.reconciling import Reconciliation, check_published, read_published, reconcile

ACTOR = "convoy command"
COLOURS = {"within": "green", "above": "red", "below": "red", "no forecast": "yellow"}


def reconcile_bills(bills: Sequence[Path], totals: Path | None, as_json: bool) -> None:
    """Reconcile FOCUS bills from anywhere and print what they come to; needs no stack and records nothing.

    Raises InputError that names column and line of what cannot be read, IntegrityError where the bills have not the
    published totals.
    """
    published = None if totals is None else read_published(totals)
    found = reconcile(bills, {}, Costs().deviation)
    if published is not None:
        check_published(found.totals, published)
    if as_json:
        print_json({"bills": [str(bill) for bill in bills], **summary(found)})
        return
    _show(found)
    if published is not None:
        out.print("The totals and row digests are exactly the published ones.")


def reconcile_regions(totals: Path | None, as_json: bool) -> None:
    """Reconcile the regions' own bills as the scheduled flow does, record it, and print what they come to.

    Raises what is wrong with a region's bill after the others were recorded and printed.
    """
    if totals is not None:
        raise InputError("--totals", "belongs to a bill", "Name the bill with --bill.")
    house = House.open()
    house.ledger.verify()
    gathered = gather(house, datetime.now(UTC))
    done = [settle_apart(house, bills, ACTOR) for bills in gathered.groups]
    settled = [found for one in done for found in one.settled]
    problems = [*gathered.problems, *(problem for one in done for problem in one.problems)]
    reports = [write_report(house, found) for found in settled]
    if as_json:
        print_json(
            {
                "without": list(gathered.without),
                "problems": [str(problem) for problem in problems],
                "reconciled": [
                    {**found.event.payload, "event": found.event.seq, "new": found.new, "report": str(file)}
                    for found, file in zip(settled, reports, strict=True)
                ],
            }
        )
    else:
        _show_regions(gathered.without, settled, reports, problems)
    if problems:
        raise problems[0]


def _show_regions(without: Sequence[str], settled: Sequence[Settled], reports: Sequence[Path], problems: Sequence[ConvoyError]) -> None:
    for reason in without:
        out.print(f"No bill: {reason}", markup=False)
    for problem in problems[1:]:
        out.print(f"Not reconciled: {problem}", markup=False)
    if not settled and not problems:
        out.print("Nothing to reconcile: no region has a bill that is not reconciled yet.")
    for found, file in zip(settled, reports, strict=True):
        _show(found.reconciliation)
        known = "" if found.new else ", recorded before"
        out.print(f"{found.sentence} (ledger event {found.event.seq}{known}). Report: {file}", markup=False)


def _show(found: Reconciliation) -> None:
    told: Mapping[str, Any] = summary(found)
    totals = [
        [total["period"], total["currency"], str(total["rows"]), total["billed"], total["effective"], total["row_digest"][:16]]
        for total in told["totals"]
    ]
    print_table("Totals", ("period", "currency", "rows", "billed", "effective", "row digest"), totals)
    parts = [
        [escape(part["model"]), escape(part["region"]), escape(part["traffic"]), _money(part), str(part["rows"]), part["predictions"]]
        for part in told["parts"]
    ]
    print_table("Parts, which sum to the totals", ("model", "region", "traffic", "billed", "rows", "predictions"), parts)
    places = [
        [
            escape(place["model"]),
            escape(place["region"]),
            _money(place),
            place["forecast"] or "-",
            place["difference"] or "-",
            place["per_thousand"] or "-",
            f"[{COLOURS[place['outcome']]}]{place['outcome']}[/]",
        ]
        for place in told["places"]
    ]
    columns = ("model", "region", "billed", "forecast", "difference", "per 1,000 predictions", "outcome")
    print_table(f"Against the forecast, from {told['begins']} to {told['ends']}", columns, places)


def _money(amount: Mapping[str, Any]) -> str:
    return f"{amount['billed']} {escape(amount['currency'])}"
