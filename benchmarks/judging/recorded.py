"""The whole shipped chain on some releases of each row: log lines, fold, judge; against the columns that judge the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from benchmarks.form import Row
from benchmarks.judging import convoy
from benchmarks.judging.chain import BEGIN, CANARY, STABLE, pairs_of, recorded, table_of
from benchmarks.judging.convoy import Counted
from benchmarks.judging.releases import WORKERS
from benchmarks.judging.scenarios import Scenario
from benchmarks.judging.simulator import SECONDS, simulate
from fleet.evidence import Attempts, Outcome
from monitoring.criteria import Criteria
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
    ours = [*counted.tables, *counted.pairs]
    theirs = [form(attempts, region) for form in (table_of, pairs_of) for region in counted.regions]
    differing = sum(int((mine != its).sum()) for mine, its in zip(ours, theirs, strict=True))
    counts = sum(int(np.count_nonzero(mine)) for mine in ours)
    return Compared(counts, differing, _verdicts_differ(scenario, counted, attempts))


def _verdicts_differ(scenario: Scenario, counted: Counted, attempts: Attempts) -> bool:
    """Ask the judge as the flow does, and hold it against the one pass: same outcome, and no rollback a second before."""
    declared = convoy.criteria(scenario, convoy.STAKES["all metrics"])
    passed = convoy.judged(declared, counted.evidence())
    if _asked(declared, scenario, attempts, attempts.complete_to) is not passed.outcome:
        return True
    if passed.outcome is not Outcome.ROLL_BACK or passed.second is None:
        return False
    before, then = (_asked(declared, scenario, attempts, until) for until in (passed.second, passed.second + 1))
    return before is Outcome.ROLL_BACK or then is not Outcome.ROLL_BACK


def _asked(declared: Criteria, scenario: Scenario, attempts: Attempts, until: int) -> Outcome:
    regions = tuple(place.name for place in scenario.places)
    evidence = CanaryEvidence(CANARY, STABLE, Attempts(attempts.counts, until, attempts.pairs), regions, cuts=convoy.CUTS)
    return judge(declared, evidence, datetime.fromtimestamp(max(until, BEGIN), UTC)).outcome
