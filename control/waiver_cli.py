"""The commands `convoy waiver ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

waiver_app = typer.Typer(help="What two people let go although a gate refuses it.", no_args_is_help=True)


@waiver_app.command("key")
def waiver_key(file: Annotated[Path, typer.Argument(help="A new file for your private key; nobody else may have it.")]) -> None:
    """Make a key to sign waivers with and print its public half, for `gates.waivers.keys` in fleet.yaml."""
    from control.waiver_commands import make_key

    make_key(file)


@waiver_app.command("draft")
def waiver_draft(
    gate: Annotated[str, typer.Argument(help="The gate that refuses, as its report calls it.")],
    thing: Annotated[str, typer.Argument(help="What it refuses, exactly as the report says that it may be waived.")],
    model: Annotated[str, typer.Option("--model", help="The model's name.")],
    version: Annotated[str, typer.Option("--version", help="The only MLflow version that it is for.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the ledger beside the gate's answer.")],
    to: Annotated[Path, typer.Option("--to", help="The new file; its folder is the one of `gates.waivers`.")],
    digest: Annotated[str | None, typer.Option("--digest", help="Only for these very files of the version.")] = None,
    days: Annotated[float, typer.Option("--days", min=0.01, max=366, help="How long it holds.")] = 30.0,
) -> None:
    """Write a waiver that nobody has signed yet."""
    from control.waiver_commands import draft

    told = {"gate": gate, "thing": thing, "model": model, "model_version": version, "digest": digest, "reason": reason}
    draft(told, days, to)


@waiver_app.command("sign")
def waiver_sign(
    file: Annotated[Path, typer.Argument(help="The waiver.")],
    key: Annotated[Path, typer.Option("--key", help="Your private key, as `convoy waiver key` made it.")],
) -> None:
    """Sign a waiver with your own key; it holds once two different people have."""
    from control.waiver_commands import sign

    sign(file, key)


@waiver_app.command("check")
def waiver_check(
    file: Annotated[Path, typer.Argument(help="The waiver.")],
    version: Annotated[str | None, typer.Option("--version", help="Whether it holds for this version; else for its own.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Whether it holds for these files; else for its own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Say whether a waiver holds now, who signed it, and else why not; exit 2 where it does not."""
    from control.waiver_commands import check

    raise typer.Exit(int(check(file, version, digest, as_json)))
