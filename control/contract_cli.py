"""The commands `convoy contract ...`. Nothing heavy is imported before one is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from control.options import AsJson

contract_app = typer.Typer(help="What the data of a model must be like.", no_args_is_help=True)


@contract_app.command("learn")
def contract_learn(
    subject: Annotated[str, typer.Argument(metavar="MODEL|FILE", help="A model of fleet.yaml, or a Parquet or CSV file.")],
    rows: Annotated[
        str, typer.Option("--rows", help="Which rows of the model: training, validation, evaluation, golden, or drift's reference.")
    ] = "training",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write; if absent, the contract that fleet.yaml names, or beside FILE.")
    ] = None,
    slack: Annotated[
        float, typer.Option("--slack", min=0.01, max=10, help="How far what comes may differ, as a part of what was seen.")
    ] = 0.1,
    categories: Annotated[int, typer.Option("--categories", min=0, max=1000, help="The most values of a column that are named.")] = 25,
    force: Annotated[bool, typer.Option("--force", help="Replace a contract that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Learn a data contract (Great Expectations) from rows that are known to be good; people edit it afterwards."""
    from control.contract_commands import Wanted, learn_contract
    from flows.contracts import rows_named
    from policies.learning import Slack

    learn_contract(Wanted(subject, rows_named(rows), Slack(slack, categories), out, force), as_json)
