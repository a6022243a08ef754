"""What several commands of `convoy` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fleet.commands import Command
from fleet.errors import ExitCode

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
ModelName = Annotated[str, typer.Argument(help="The model's name in fleet.yaml and MLflow.")]
CommandName = Annotated[Command, typer.Argument(help="What it shall do.")]
ReleaseName = Annotated[str | None, typer.Option("--release", help="Its name, such as employment-3; if absent, the one under way.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="Holds your operator's token; if absent, this home's operator.")]


def leave(code: ExitCode) -> NoReturn:
    """End the command with an exit code."""
    raise typer.Exit(int(code))
