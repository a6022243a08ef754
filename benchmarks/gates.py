"""What the gates refuse and let through, and how long each takes: a module of `gate_cases` for each subject."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.form import Row

CASES = ("files", "quality", "policy", "rights", "ledger")
TESTS = Path(__file__).parents[1] / "tests"
"""The hostile and the ordinary models are those of the tests."""


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run does less of each."""
    sys.path[:0] = [str(TESTS), str(TESTS / "policies")]
    return [row for case in CASES for row in importlib.import_module(f"benchmarks.gate_cases.{case}").rows(quick)]
