"""The whole shipped chain on some releases of each row: log lines, fold, judge; against the columns that judge the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from benchmarks.form import Row
from benchmarks.judging import convoy
from benchmarks.judging.chain import BEGIN, CANARY, STABLE, recorded, table_of
from benchmarks.judging.convoy import Counted
from benchmarks.judging.releases import WORKERS
from benchmarks.judging.scenarios import Scenario
from benchmarks.judging.simulator import SECONDS, simulate
from fleet.evidence import Attempts, Outcome
from monitoring.judge import CanaryEvidence, judge

ROW = "recorded attempts through the shipped fold"
QUICK_SECONDS = 240


@dataclass(frozen=True, slots=True)
class Compared:
    """How far the two ways of one release lie apart: counts that differ of how many, and whether the verdicts do."""

    counts: int
    differing: int
    verdict_differs: bool


def rows(scenarios: Sequence[Scenario], seeds: range, quick: bool) -> Iterator[Row]:
    """Compare some releases of each row; the quick run only their first minutes."""
    seconds = QUICK_SECONDS if quick else SECONDS
    cases = [(scenario, seed, seconds) for scenario in scenarios for seed in seeds]
    with ProcessPoolExecutor(WORKERS) as pool:
        found = list(pool.map(_compare, cases))
    total = f"{len(found)} releases, {sum(one.counts for one in found)} counts"
    yield Row(ROW, total, float(sum(one.differing for one in found)), "counts that differ", None, len(found), 0.0)
    different = sum(one.verdict_differs for one in found)
    yield Row(ROW, f"{len(found)} releases", float(different), "verdicts that differ", None, len(found), 0.0)


def _compare(case: tuple[Scenario, int, int]) -> Compared:
    return compare(*case)


def compare(scenario: Scenario, seed: int, seconds: int = SECONDS) -> Compared:
    """Judge the first `seconds` of a release both ways."""
    traffic = simulate(scenario, seed)
    counted = Counted.of(traffic).until(seconds)
    attempts = recorded(traffic, seconds)
    differing = sum(
        int((table_of(attempts, region) != table).sum()) for region, table in zip(counted.regions, counted.tables, strict=True)
    )
    counts = sum(int(np.count_nonzero(table)) for table in counted.tables)
    return Compared(counts, differing, _verdicts_differ(scenario, counted, attempts))


def _verdicts_differ(scenario: Scenario, counted: Counted, attempts: Attempts) -> bool:
    """Ask the judge as the flow does, and hold it against the one pass: same outcome, and no rollback a second before."""
    declared = convoy.criteria(scenario, convoy.STAKES["all metrics"])
    passed = convoy.judged(declared, counted.evidence())
    asked = [_asked(declared, scenario, attempts, attempts.complete_to)]
    expected = [passed.outcome]
    if passed.outcome is Outcome.ROLL_BACK and passed.second is not None:
        asked += [_asked(declared, scenario, attempts, until) is Outcome.ROLL_BACK for until in (passed.second, passed.second + 1)]
        expected += [False, True]
    return asked != expected


def _asked(declared: convoy.Criteria, scenario: Scenario, attempts: Attempts, until: int) -> Outcome:
    regions = tuple(place.name for place in scenario.places)
    evidence = CanaryEvidence(CANARY, STABLE, Attempts(attempts.counts, until, attempts.pairs), regions)
    return judge(declared, evidence, datetime.fromtimestamp(max(until, BEGIN), UTC)).outcome
