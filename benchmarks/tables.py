"""Rows as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a table with one line a row."""
    return [
        "| what | of | median | spread | rounds | asked for | met |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
        "",
    ]


def _line(row: dict[str, Any]) -> str:
    if row.get("skipped"):
        figure, spread = f"not run: {row['skipped']}", ""
    else:
        figure = f"{row['figure']:g} {row['unit']}"
        spread = f"{row['spread'][0]:g} to {row['spread'][1]:g}" if row["spread"] and row["rounds"] > 1 else ""
    target = f"at {'least' if row.get('least') else 'most'} {row['target']:g} {row['unit']}" if "target" in row else ""
    met = {None: "", True: "yes", False: "**no**"}[row.get("met")]
    return f"| {row['row']} | {row['subject']} | {figure} | {spread} | {row['rounds']} | {target} | {met} |"
