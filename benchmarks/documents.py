"""docs/benchmarks.md, generated from the committed results."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.form import RESULTS, ROOT
from benchmarks.judging import page as judging

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Generated from `benchmarks/results/` by `python -m benchmarks NAME`; do not edit. Each figure is the median of its rounds,
with the lowest and the highest beside it. A figure that falls short of what was asked for stays in the table.
"""


def write_page() -> None:
    """Write the page anew from every committed result."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page's text."""
    files = [file for file in sorted(RESULTS.glob("*.json")) if not file.name.startswith("proof-")]
    return "\n".join([HEAD, *(section(json.loads(file.read_text(encoding="utf-8"))) for file in files)])


def section(document: dict[str, Any]) -> str:
    """Return one subject's part; the judge's many rows stand side by side."""
    machine = document["machine"]
    lines = [
        f"## {document['benchmark'].capitalize()}",
        "",
        f"{document['date'][:10]}, commit `{document['convoy']}`, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, Python {machine['python']}.",
        "",
        *(judging.section(document) if document["benchmark"] == "judge" else _table(document["rows"])),
    ]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
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
    target = f"at most {row['target']:g} {row['unit']}" if "target" in row else ""
    met = {None: "", True: "yes", False: "**no**"}[row.get("met")]
    return f"| {row['row']} | {row['subject']} | {figure} | {spread} | {row['rounds']} | {target} | {met} |"
