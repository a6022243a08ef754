"""What `make proof` found: printed while it goes on, written as JSON, and shown in docs/proof.md."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from benchmarks.form import RESULTS, ROOT, Row, report, write

T = TypeVar("T")
PAGE = ROOT / "docs" / "proof.md"
PARTS = ("sweep", "mutants", "soak", "bodies")
HEAD = """# Proof

What `make proof` found; generated from `benchmarks/results/proof-*.json`, do not edit. It runs at length what each test run
only samples. A case that fails stays in the table.
"""


@dataclass
class Report:
    """What a part found: figures, and every case."""

    part: str
    rows: list[Row] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether every figure met its target, and every case is right."""
        return all(row.met is not False for row in self.rows) and all(case["right"] for case in self.cases)

    def document(self) -> dict[str, Any]:
        """Return it as it is written."""
        return report(f"proof-{self.part}", self.rows) | {"cases": self.cases}


class Progress(Generic[T]):
    """Tells what was done of how much, and keeps the results; may be told by several threads."""

    def __init__(self, total: int) -> None:
        self.results: list[T] = []
        self._total, self._done = total, 0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print a line with the time since the beginning."""
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", flush=True)

    def step(self, found: object, what: str, right: bool) -> None:
        """Tell that one is done."""
        with self._lock:
            self._done += 1
            problems = "" if right else f": {'; '.join(getattr(found, 'wrong', ())) or 'failed requests'}"
            self.say(f"[{self._done}/{self._total}] {'ok   ' if right else 'WRONG'} {what}{problems}")

    def step_of(self, what: str, wrong: tuple[str, ...]) -> None:
        """Tell that one of nobody knows how many is done."""
        self.say(f"{'WRONG' if wrong else 'ok   '} {what}{': ' if wrong else ''}{'; '.join(wrong)}")

    def result(self, found: T) -> None:
        """Keep a result."""
        with self._lock:
            self.results.append(found)


def committed_result(part: str) -> dict[str, Any] | None:
    """Return a part's result as it is committed, None without one."""
    file = RESULTS / f"proof-{part}.json"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


def write_results(found: Report) -> None:
    """Write a part's results, and the page anew."""
    write(found.document())
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page of every part that was run."""
    files = [RESULTS / f"proof-{part}.json" for part in PARTS]
    return "\n".join([HEAD, *(section(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists())])


def section(document: dict[str, Any]) -> str:
    """Return one part: where and when it ran, its figures, and its cases."""
    part, machine = document["benchmark"].removeprefix("proof-"), document["machine"]
    figures = [[row["row"], f"{row['figure']:g} {row['unit']}", _asked(row)] for row in document["rows"]]
    lines = [
        f"## {TITLES[part]}",
        "",
        f"{document['date'][:10]}, commit `{document['convoy']}`, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['memory_gib']} GiB, Python {machine['python']}.",
        "",
        *_table(["what", "how much", "asked for"], figures),
        "",
        *_of_other_commits(document["cases"]),
        *TABLES[part](document["cases"]),
    ]
    return "\n".join(lines)


def killed_where(cases: list[dict[str, Any]]) -> list[str]:
    """Return the sweep's table: one line for each effect of each ending, one column for each point."""
    points = list(dict.fromkeys(case["point"] for case in cases if case.get("effect")))
    lines: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for case in cases:
        key = (case["ending"], f"`{case['effect']}`" if case.get("effect") else case["point"])
        lines.setdefault(key, {}).setdefault(case["point"], []).append(case)
    order = [point for point in ("before", "between", "acted", "after") if point in points]
    body = []
    for (ending, effect), tried in sorted(lines.items()):
        everything = [case for each in tried.values() for case in each]
        cells = (
            [_ended(tried.get(point, [])) for point in order] if effect.startswith("`") else [_ended(everything), *[""] * (len(order) - 1)]
        )
        body.append([ending, effect, *cells])
    told = [
        "Each cell says how many releases that were killed there ended exactly as the uncrashed one does: the same phase, each",
        "effect intended and completed once, one revision in each region, stores, edges and alias right, no request failed.",
        "",
    ]
    return [*told, *_table(["the release is", "killed at", *order], body), "", *_failures(cases)]


def caught_by(cases: list[dict[str, Any]]) -> list[str]:
    """Return the mutants' table: what was broken, and which tests failed on it."""
    body = [[case["mutant"], f"`{case['file']}`", "caught" if case["right"] else "**survived**", case.get("by", "")] for case in cases]
    return [*_table(["what was broken", "where", "", "by"], body), ""]


def rounds(cases: list[dict[str, Any]]) -> list[str]:
    """Return what the soak held against its bounds."""
    body = [[case["what"], case["first"], case["last"], case["bound"], "yes" if case["right"] else "**no**"] for case in cases]
    return [*_table(["what", "at first", "at last", "may become", "holds"], body), ""]


def answered_how(cases: list[dict[str, Any]]) -> list[str]:
    """Return how the hostile bodies of each kind were answered."""
    body = [[case["kind"], case["bodies"], case["answers"], "yes" if case["right"] else "**no**"] for case in cases]
    return [*_table(["what was sent", "how many", "answered with", "as it must"], body), ""]


def _ended(cases: list[dict[str, Any]]) -> str:
    if not cases:
        return ""
    right = sum(case["right"] for case in cases)
    return f"{right} of {len(cases)}" if right == len(cases) else f"**{right} of {len(cases)}**"


def _of_other_commits(cases: list[dict[str, Any]]) -> list[str]:
    """Say how many cases were not run again, and of which commit they are."""
    commits = Counter(case["convoy"] for case in cases if "convoy" in case)
    told = ", ".join(f"{count} at `{commit}`" for commit, count in commits.items())
    return [f"Of these cases not all were run at this commit: {told}.", ""] if told else []


def _failures(cases: list[dict[str, Any]]) -> list[str]:
    lines = []
    for case in cases:
        if not case["right"]:
            failed = [f"{case['failed_requests']} requests failed"] if case["failed_requests"] else []
            lines.append(f"- {case['ending']}, {case['point']} `{case.get('effect', '')}`: {'; '.join([*case['wrong'], *failed])}")
    return ["What was wrong:", "", *lines, ""] if lines else []


def _asked(row: dict[str, Any]) -> str:
    if "target" not in row:
        return ""
    return f"at most {row['target']:g}" if row["met"] else f"at most {row['target']:g}: **missed**"


def _table(head: list[str], body: list[list[Any]]) -> list[str]:
    return [f"| {' | '.join(map(str, line))} |" for line in (head, ["---"] * len(head), *body)]


TITLES = {"sweep": "Killed anywhere", "mutants": "Mutants of the safety code", "soak": "Soak", "bodies": "Hostile bodies"}
TABLES = {"sweep": killed_where, "mutants": caught_by, "soak": rounds, "bodies": answered_how}
