"""The commands `convoy costs ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control.options import AsJson

costs_app = typer.Typer(help="Reconcile what serving costs.", no_args_is_help=True)


@costs_app.command("reconcile")
def costs_reconcile(
    bill: Annotated[
        list[Path] | None,
        typer.Option("--bill", help="A FOCUS bill (CSV, CSV.gz, Parquet), read and not recorded; may be repeated. Else the regions' own."),
    ] = None,
    totals: Annotated[Path | None, typer.Option("--totals", help="Control totals (JSON) that the bills must have exactly.")] = None,
    as_json: AsJson = False,
) -> None:
    """Split bills by model, region and traffic to the last digit, and tell every deviation from the forecast."""
    from control.costs_commands import reconcile_bills, reconcile_regions

    if bill:
        reconcile_bills(bill, totals, as_json)
    else:
        reconcile_regions(totals, as_json)
