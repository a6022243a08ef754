"""What the gates refuse and let through, and how long each takes: a module of `gate_cases` for each subject."""

from __future__ import annotations

import importlib

from benchmarks.form import Row

CASES = ("files", "quality", "policy", "rights", "ledger")


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run does less of each."""
    return [row for case in CASES for row in importlib.import_module(f"benchmarks.gate_cases.{case}").rows(quick)]
