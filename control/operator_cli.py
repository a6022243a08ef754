"""The commands `convoy operator ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from typing import Annotated

import typer

from control.options import AsJson, CommandName, ModelName, ReleaseName, TokenFile

operator_app = typer.Typer(help="Who may command releases.", no_args_is_help=True)


@operator_app.command("add")
def operator_add(
    name: Annotated[str, typer.Argument(help="A role, such as night-shift: it stays in the ledger.")],
    again: Annotated[bool, typer.Option("--again", help="Give a known operator a new token; the old one is refused from now on.")] = False,
) -> None:
    """Make an operator and print the token, once."""
    from control.operate_commands import add_operator

    add_operator(name, again)


@operator_app.command("remove")
def operator_remove(name: Annotated[str, typer.Argument(help="The operator's name.")]) -> None:
    """Remove an operator; the token is refused from now on."""
    from control.operate_commands import remove_operator

    remove_operator(name)


@operator_app.command("list")
def operator_list(as_json: AsJson = False) -> None:
    """List the operators by name."""
    from control.operate_commands import list_operators

    list_operators(as_json)


@operator_app.command("pass")
def operator_pass(
    model: ModelName,
    command: CommandName,
    release: ReleaseName = None,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, max=60, help="How long it is good.")] = 10.0,
    token_file: TokenFile = None,
) -> None:
    """Print a pass for Prefect's UI, which keeps what is typed there: good for this command, once."""
    from control.operate_commands import print_pass
    from flows.operating import Wish

    print_pass(Wish(model, command.value, "", release=release), minutes, token_file)


@operator_app.command("claim")
def operator_claim(
    model: ModelName,
    version: Annotated[str, typer.Option("--version", help="The MLflow version that you built.")],
    token_file: TokenFile = None,
) -> None:
    """Say that you built a version, in a tag of MLflow: where several people must approve, its builder may not."""
    from control.operate_commands import claim_version

    claim_version(model, version, token_file)
