"""The rows of the cases: what callers sent, what failed, whose doing that was, and how soon a canary fell silent."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.form import Row, measured, skipped
from benchmarks.traffic_cases.blame import Doing, kinds, whose
from traffic.load import Sent, Totals

SENT, FAILED, OURS, SLOWEST, LATE = "requests sent", "failed", "failed by Convoy's doing", "slowest answer", "sent late by up to"
SILENT, CONFIRMED, APART = "until the canary's last answer", "until Envoy confirmed it", "edges apart"
UNITS = {SENT: "requests", FAILED: "requests", OURS: "requests", SLOWEST: "ms", LATE: "ms", SILENT: "s", CONFIRMED: "s", APART: "s"}
COUNTED = (SENT, FAILED, OURS, SLOWEST, LATE)
NONE_FAILED, WITHIN = 0.0, 1.0
LOAD = "the load itself"


@dataclass(frozen=True, slots=True)
class Ran:
    """One case as it went: how often, under which requests, how long each thing took, and why it did not go on."""

    case: str
    times: int
    sent: tuple[Sent, ...]
    seconds: dict[str, tuple[float, ...]]
    broken: str = ""


def rows_of(ran: Ran, asked: dict[str, float]) -> list[Row]:
    """Return a case's rows; one that did not come to its end has not shown that nothing failed by it, or in time."""
    failed = [each for each in ran.sent if whose(each) is not None]
    if failed:
        print(f"{ran.case}: {kinds(failed)}", file=sys.stderr)
    figures: dict[str, float] = {
        SENT: len(ran.sent),
        FAILED: len(failed),
        OURS: sum(whose(each) is Doing.CONVOY for each in failed),
        SLOWEST: round(max((each.milliseconds for each in ran.sent), default=0.0), 1),
        LATE: round(max(((each.sent - each.due) * 1000 for each in ran.sent), default=0.0), 1),
    }
    found = [Row(ran.case, name, value, UNITS[name], None, ran.times, asked.get(name)) for name, value in figures.items()]
    found += [measured(ran.case, name, values, UNITS[name], asked.get(name)) for name, values in ran.seconds.items() if values]
    if not ran.broken:
        return found
    unasked = [row for row in found if row.target is None]
    return [*unasked, *(skipped(ran.case, name, UNITS[name], ran.broken, target) for name, target in asked.items())]


def not_run(case: str, asked: dict[str, float], why: str) -> list[Row]:
    """Return the rows of a case that this run leaves out."""
    return [skipped(case, name, UNITS[name], why, asked.get(name)) for name in dict.fromkeys([*COUNTED, *asked])]


def load_rows(totals: Totals) -> list[Row]:
    """Return whether the load was what it says: what it reached, and how late it was by itself."""
    return [
        Row(LOAD, "reached", totals.rate, "requests a second"),
        Row(LOAD, "due and not sent", max(0, totals.scheduled - totals.sent), "requests"),
        Row(LOAD, "late by its own doing, p99", totals.p99_lag_ms, "ms"),
    ]
