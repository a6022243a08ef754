"""Can the canary judge be trusted? Simulated releases, judged by Convoy, by its peers' documented rules and by one that knows the truth.

Seeds below 1000 are for tuning and tests; what is reported here is simulated with seeds from `FIRST_SEED` on.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.form import Row
from benchmarks.judging import figures, recorded
from benchmarks.judging.releases import judge_all
from benchmarks.judging.scenarios import ALL, Also

FIRST_SEED = 10_000
RELEASES, QUICK_RELEASES = 2_000, 40
RECORDED, QUICK_RECORDED = 20, 1
TARGETS_IN = "errors x2"


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run has fewer releases in each."""
    return list(_rows(quick))


def _rows(quick: bool) -> Iterator[Row]:
    releases = range(FIRST_SEED, FIRST_SEED + (QUICK_RELEASES if quick else RELEASES))
    for scenario, ended in judge_all(ALL, releases):
        yield from figures.rows_of(scenario, ended)
        if Also.POWER in scenario.also:
            yield from figures.asked_of(scenario, ended, with_targets=scenario.name == TARGETS_IN)
    yield from recorded.rows(ALL, releases[: QUICK_RECORDED if quick else RECORDED], quick)
