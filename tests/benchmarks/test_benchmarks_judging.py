"""How releases are judged and told: the oracle, the traps, the figures, the page and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.documents import section
from benchmarks.form import RESULTS, Row, report
from benchmarks.judge import FIRST_SEED
from benchmarks.judging import convoy, figures, oracle
from benchmarks.judging.convoy import Counted
from benchmarks.judging.picture import PICTURE, draw
from benchmarks.judging.recorded import ROW
from benchmarks.judging.releases import ASSUMED, CONVOY, ERRORS_ONLY, EVERY_ATTEMPT, ORACLE, Endings, judge_some
from benchmarks.judging.scenarios import ALL, Also, Kind, Scenario
from benchmarks.judging.simulator import simulate
from fleet.evidence import Outcome

BY_NAME = {scenario.name: scenario for scenario in ALL}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Every row on two releases."""
    found = []
    for scenario in ALL:
        ended = judge_some(scenario, range(2))
        found += figures.rows_of(scenario, ended)
        if Also.POWER in scenario.also:
            found += figures.asked_of(scenario, ended, with_targets=True)
    return [*found, Row(ROW, "no releases", 0.0, "counts that differ", None, 1, 0.0)]


def test_the_benchmark_has_its_own_seeds() -> None:
    """Tests and tuning use seeds below 1000."""
    assert FIRST_SEED >= 1000


def test_the_oracle_keeps_its_error_and_needs_as_few_requests_as_theory_says() -> None:
    """At a share of one half, 5 % errors doubled: Wald's expected number of events is about log(1/alpha) over the information of each."""
    rng = np.random.default_rng(1)
    odds = oracle.odds_ratio_of(0.05, 2.0)
    reached: dict[float, list[int]] = {1.0: [], 2.0: []}
    for times, found in reached.items():
        for _ in range(1500):
            canary, stable = rng.binomial(5, 0.05 * times, 3000), rng.binomial(5, 0.05, 3000)
            ratio = oracle.log_ratio(canary, stable, np.full(3000, 0.5), odds)
            crossed = np.flatnonzero(ratio >= np.log(20))
            found += [int((canary + stable)[: crossed[0] + 1].sum())] if len(crossed) else []
    assert len(reached[1.0]) / 1500 <= 0.05
    assert len(reached[2.0]) == 1500
    share = odds / (odds + 1)
    information = share * np.log(2 * share) + (1 - share) * np.log(2 * (1 - share))
    assert np.mean(reached[2.0]) == pytest.approx(np.log(20) / information, rel=0.25)


def test_the_oracle_is_the_floor_of_what_convoy_needs() -> None:
    ended = judge_some(BY_NAME["errors x2"], range(30))
    needed = [np.median(ended[subject].exposed) for subject in (ORACLE, ERRORS_ONLY, CONVOY)]
    assert needed == sorted(needed)
    assert all(ended[ORACLE].rolled_back)


def test_the_traps_take_the_share_on_faith_and_every_attempt_for_news() -> None:
    trapped = judge_some(BY_NAME["true share 13 %, declared 10 %"], range(40))
    assert np.mean(trapped[ASSUMED].rolled_back) > 0.15
    evidence = Counted.of(simulate(BY_NAME["retry bursts"], 1)).evidence()
    every = convoy.with_every_attempt(evidence)
    for region, strata in every.strata.items():
        assert strata.canary.bad_once.sum() > 2 * evidence.strata[region].canary.bad_once.sum()
    assert EVERY_ATTEMPT in judge_some(BY_NAME["retry bursts"], range(1))


def test_convoy_promotes_at_the_end_of_the_last_step_only() -> None:
    evidence = Counted.of(simulate(BY_NAME["steady"], 3)).evidence()
    declared = convoy.criteria(BY_NAME["steady"], convoy.STAKES["all metrics"])
    found = convoy.judged(declared, evidence)
    assert (found.outcome, found.second) == (Outcome.PROMOTE, max(int(strata.second[-1]) for strata in evidence.strata.values()))


def test_every_row_that_was_asked_for_is_simulated() -> None:
    names = {scenario.name for scenario in ALL}
    assert len(names) == len(ALL)
    for part in (
        "steady",
        "daily wave",
        "autocorrelated",
        "retry bursts",
        "100 requests",
        "20 requests",
        "weight steps",
        "13 %",
        "three regions",
        "x1.5",
        "x2",
        "x3",
        "in one of three",
        "slower tail",
        "from zero",
        "prediction shift",
    ):
        assert any(part in name for name in names), part


def test_a_share_has_its_exact_interval_and_its_target_where_one_is_promised() -> None:
    none = figures.share("a row", "of", np.zeros(2000, dtype=bool), figures.ROLLED_BACK, 5.0)
    assert (none.figure, none.spread, none.met) == (0.0, (0.0, 0.18), True)
    some = figures.share("a row", "of", np.arange(2000) < 120, figures.ROLLED_BACK, 5.0)
    assert (some.figure, some.met) == (6.0, False)
    assert some.spread is not None
    assert some.spread[0] < 6.0 < some.spread[1]


def test_a_release_that_nobody_stopped_counts_with_all_its_requests() -> None:
    missed = Endings([True, False, False], [False, True, True], [1, 60, 60], [100, 5000, 5000])
    floor = Endings([True] * 3, [False] * 3, [1] * 3, [100] * 3)
    assert figures.ratio("a row", "of", missed, floor).figure == 50


def test_only_convoy_promises_to_keep_identical_versions(rows: list[Row]) -> None:
    promised = {(row.row, row.subject) for row in rows if row.unit == figures.ROLLED_BACK and row.target is not None}
    assert promised == {
        (scenario.title, subject) for scenario in ALL if scenario.kind is Kind.IDENTICAL for subject in (CONVOY, ERRORS_ONLY)
    }


def test_the_page_shows_every_row_and_rule_side_by_side(rows: list[Row]) -> None:
    text = section(report("judge", rows))
    for scenario in ALL:
        assert f"| {scenario.name} | " in text
    for heading in (
        "What was asked for",
        "Identical versions",
        "Harmful versions",
        "Beyond the promise",
        "precautions",
        "costs",
        "fixed limit",
    ):
        assert heading in text
    assert "re-implementations" in text
    assert str(PICTURE.relative_to(PICTURE.parents[1])) in text


def test_the_same_document_gives_the_same_picture(rows: list[Row], tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        draw(report("judge", rows), tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "Kayenta" in text


def test_a_committed_run_has_its_picture() -> None:
    assert (RESULTS / "judge.json").exists() == PICTURE.exists()


def test_a_row_is_titled_by_its_kind() -> None:
    assert Scenario("steady", Kind.IDENTICAL).title == "identical: steady"
