"""The published figures have the one form, and the page shows exactly them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.documents import PAGE, page
from benchmarks.form import RESULTS, ROOT, Row, measured, skipped

FILES = [file for file in sorted(RESULTS.glob("*.json")) if not file.name.startswith("proof-")]


def test_the_page_is_generated_from_the_committed_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_committed_result_names_its_machine_commit_and_date_and_only_full_rows(file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    assert set(document) == {"benchmark", "date", "convoy", "machine", "rows"}
    assert set(document["machine"]) == {"cpu", "cores", "memory_gib", "python"}
    for row in document["rows"]:
        assert {"row", "subject", "figure", "unit", "spread", "rounds"} <= set(row)
        assert ("target" in row) == ("met" in row)
        assert (row["figure"] is None) == ("skipped" in row)


def test_every_figure_that_was_asked_for_was_measured_on_a_committed_tree() -> None:
    document = json.loads((RESULTS / "release.json").read_text(encoding="utf-8"))
    asked = {row["row"] for row in document["rows"] if "target" in row and "skipped" not in row}
    assert asked >= {
        "help is printed",
        "convoy up to all healthy, first",
        "convoy up to all healthy, later",
        "alias set to release flow running",
        "a release's own overhead, three regions",
        "weight change effective",
        "failed requests while weights change",
        "make demo, warm package cache",
    }
    assert any(row["row"] == "memory of the stack at rest" for row in document["rows"])
    assert "with changes" not in document["convoy"]


def test_a_missed_figure_says_so_and_a_skipped_one_says_why() -> None:
    missed = measured("a row", "of something", [3.0, 1.0, 2.0], "s", 1.5)
    assert (missed.figure, missed.spread, missed.met) == (2.0, (1.0, 3.0), False)
    left = skipped("a row", "of something", "s", "no such server here", 1.5)
    assert left.met is None
    assert left.as_json()["skipped"] == "no such server here"
    assert "met" not in Row("a row", "of something", 1.0, "s").as_json()


def test_the_subjects_are_listed() -> None:
    listed = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {
        "gates",
        "judge",
        "plan",
        "regions",
        "release",
        "replication",
        "serving",
        "traffic",
    }
