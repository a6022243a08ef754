"""How the commands print: JSON for machines on stdout, tables and progress for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fleet.errors import ConvoyError

out = Console(highlight=False, emoji=False, soft_wrap=True)
progress = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a JSON-able value on stdout."""
    import orjson

    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")
    sys.stdout.buffer.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; its cells are markup, so text that is not ours is escaped by the caller."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def complain(problem: ConvoyError) -> None:
    """Print an error on stderr: the thing, the reason and the remedy."""
    progress.print(f"[bold red]error[/] [bold]{escape(problem.subject)}[/]: {escape(problem.reason)}")
    if problem.remedy:
        progress.print(f"  {escape(problem.remedy)}")
