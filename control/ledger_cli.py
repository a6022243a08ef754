"""The commands `convoy ledger ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control.options import AsJson

ledger_app = typer.Typer(help="Read and check the ledger.", no_args_is_help=True)


@ledger_app.command("show")
def ledger_show(
    stream: Annotated[str | None, typer.Option("--stream", help="Only this stream, such as release/employment-1.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the ledger's events, oldest first."""
    from control.ledger_commands import show

    show(stream, as_json)


@ledger_app.command("verify")
def ledger_verify(
    heads: Annotated[
        list[Path] | None,
        typer.Option("--heads", help="A signed head kept elsewhere, or a folder of all of them such as a store; may be repeated."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Public keys (PEM) to believe: a file, or a folder of *.pub; else those of this home."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every event, the signed heads and their copies in the regions' stores; needs no server. Exit 6 when anything was changed."""
    from control.ledger_commands import verify

    verify(heads or [], key, as_json)
