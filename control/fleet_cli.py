"""The commands `convoy fleet ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from typing import Annotated

import typer

from control.options import AsJson

fleet_app = typer.Typer(help="Every fleet.yaml that a release went by.", no_args_is_help=True)

Digest = Annotated[str, typer.Argument(help="Its digest, or the beginning of it, as `convoy fleet history` shows it.")]


@fleet_app.command("history")
def fleet_history(as_json: AsJson = False) -> None:
    """Show which fleet.yaml was in force since when, and which releases went by it."""
    from control.fleet_commands import show_history

    show_history(as_json)


@fleet_app.command("show")
def fleet_show(digest: Digest) -> None:
    """Print a fleet.yaml as it was, to the byte."""
    from control.fleet_commands import show_text

    show_text(digest)


@fleet_app.command("restore")
def fleet_restore(
    digest: Digest,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference, and whether it would be refused.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how an earlier fleet.yaml differs and put it in the place of the present one, which is kept."""
    from control.fleet_commands import restore

    restore(digest, dry_run, as_json)
