"""Mutants of the safety code: each is put into a copy of the tree, and the tests that guard it must fail."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.form import ROOT, Row
from fleet.settings import inherited_environment
from proof.mutations import MUTANTS, Mutant
from proof.results import Progress, Report, committed_result

TESTS_FAILED = 1
"""pytest's own status for failed tests; any other than this and 0 means that they did not run."""
SECONDS = 300
TIME = "time"


@dataclass(frozen=True, slots=True)
class Judged:
    """A mutant, pytest's exit status on it, and which test saw it."""

    mutant: Mutant
    status: int
    by: str
    seconds: float

    @property
    def wrong(self) -> tuple[str, ...]:
        """Why the mutant was not caught, or nothing."""
        if self.status == TESTS_FAILED:
            return ()
        return ("no test failed",) if self.status == 0 else (f"the tests did not run (pytest says {self.status})",)

    def as_json(self) -> dict[str, Any]:
        """Return it as the results have it."""
        made = {"text": self.mutant.text, "instead": self.mutant.instead}
        told = {"mutant": self.mutant.name, "file": self.mutant.file, **made, "tests": list(self.mutant.tests)}
        return {**told, "right": not self.wrong, "by": self.by, "wrong": list(self.wrong), "seconds": round(self.seconds, 1)}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the mutants' options."""
    parser.add_argument("--only", default="", help="mutants whose name or file holds this text")
    parser.add_argument("--rest", action="store_true", help="only what the committed result has not, or has as wrong; the two together")


def run(given: argparse.Namespace, report: Report) -> None:
    """Judge the mutants and write down each."""
    committed = committed_result("mutants") if given.rest else None
    before = kept(committed)
    named = [mutant for mutant in MUTANTS if given.only in mutant.name or given.only in mutant.file]
    if not named:
        raise AssertionError(f"no mutant's name or file holds {given.only!r}")
    chosen = [mutant for mutant in named if key_of(mutant) not in before]
    began, done = time.monotonic(), Progress[Judged](len(chosen))
    with copied() as tree:
        everything = sorted({test for mutant in chosen for test in mutant.tests})
        status, failed = pytest_on(tree, everything, seconds=3 * SECONDS) if everything else (0, "")
        if status != 0:
            raise AssertionError(f"the tests do not pass on the tree as it is: {failed or f'pytest says {status}'}")
        done.say(f"{len(everything)} tests or files pass on the tree as it is")
        for mutant in chosen:
            found = judged(tree, mutant)
            done.step(found, mutant.name, not found.wrong)
            done.result(found)
    found = {key_of(each.mutant): each.as_json() for each in done.results}
    report.cases = [(found | before)[key_of(mutant)] for mutant in named]
    survived = sum(not case["right"] for case in report.cases)
    spent = time.monotonic() - began + sum(float(row["figure"]) for row in (committed or {"rows": []})["rows"] if row["row"] == TIME)
    report.rows = [
        Row("mutants", "Convoy's safety code", len(named), "mutants"),
        Row("mutants that no test saw", "Convoy's tests", survived, "mutants", target=0),
        Row(TIME, "all mutants", round(spent, 1), "s"),
    ]


def kept(committed: Mapping[str, Any] | None) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the mutants of a committed result that were caught, as they were made then, each with the commit that it was of."""
    found = committed or {"cases": [], "convoy": ""}
    caught = (case for case in found["cases"] if case["right"] and "text" in case)
    return {
        (case["mutant"], case["file"], case["text"], case["instead"], tuple(case["tests"])): {"convoy": found["convoy"]} | case
        for case in caught
    }


def key_of(mutant: Mutant) -> tuple[Any, ...]:
    """Return what a mutant is: one that is made otherwise, or seen by other tests, is another one."""
    return mutant.name, mutant.file, mutant.text, mutant.instead, tuple(mutant.tests)


def judged(tree: Path, mutant: Mutant) -> Judged:
    """Break a copy of the tree as a mutant says, run its tests, and repair the copy."""
    file = tree / mutant.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(mutated(whole, mutant), encoding="utf-8")
    began = time.monotonic()
    try:
        status, by = pytest_on(tree, mutant.tests, SECONDS)
    finally:
        file.write_text(whole, encoding="utf-8")
    return Judged(mutant, status, by, time.monotonic() - began)


def mutated(whole: str, mutant: Mutant) -> str:
    """Return a file's text with the mutation; raises AssertionError unless the text to replace stands there once."""
    times = whole.count(mutant.text)
    assert times == 1, f"{mutant.file} holds the text of mutant '{mutant.name}' {times} times: {mutant.text!r}"
    return whole.replace(mutant.text, mutant.instead)


def pytest_on(tree: Path, tests: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run tests in a copy of the tree; returns pytest's status and the first test that failed."""
    command = [str(tree / ".venv/bin/python"), "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *tests]
    # A file that is changed back within its second and size must not be run from its old bytecode
    environment = inherited_environment() | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    failed = [line.split(" ")[1].rpartition("::")[2] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return done.returncode, failed[0].partition("[")[0] if failed else ""


@contextmanager
def copied() -> Iterator[Path]:
    """Give a copy of the working tree whose own interpreter imports the copy, and everything else from this environment."""
    with tempfile.TemporaryDirectory(prefix="convoy-mutants-") as folder:
        tree = Path(folder) / "tree"
        listed = subprocess.run(("git", "ls-files", "-co", "--exclude-standard"), cwd=ROOT, capture_output=True, text=True, check=True)
        for name in listed.stdout.splitlines():
            if (ROOT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, tree / name)
        subprocess.run((sys.executable, "-m", "venv", "--without-pip", str(tree / ".venv")), check=True)
        for tool in Path(sys.executable).parent.iterdir():
            if not (tree / ".venv/bin" / tool.name).exists():
                (tree / ".venv/bin" / tool.name).symlink_to(tool)
        libraries = Path(sysconfig.get_path("purelib"))
        own = tree / ".venv" / libraries.relative_to(sys.prefix)
        (own / "copy.pth").write_text(f"{tree}\n{libraries}\n")
        where = subprocess.run(
            (tree / ".venv/bin/python", "-c", "import fleet; print(fleet.__file__)"), cwd=folder, capture_output=True, text=True, check=True
        )
        assert Path(where.stdout.strip()).is_relative_to(os.path.realpath(tree)), f"the copy imports {where.stdout}"
        yield tree
