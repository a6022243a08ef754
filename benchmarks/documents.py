"""docs/benchmarks.md, generated from the committed results."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.form import RESULTS, ROOT
from benchmarks.judging import page as judging
from benchmarks.tables import table
from benchmarks.traffic_cases import page as traffic

SECTIONS = {"judge": judging.section, "traffic": traffic.section}
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
    """Return one subject's part; some have many rows, which stand side by side."""
    machine, own = document["machine"], SECTIONS.get(document["benchmark"])
    lines = [
        f"## {document['benchmark'].capitalize()}",
        "",
        f"{document['date'][:10]}, commit `{document['convoy']}`, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, Python {machine['python']}.",
        "",
        *(own(document) if own else table(document["rows"])),
    ]
    return "\n".join(lines)
