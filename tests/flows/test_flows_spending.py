"""A canary that follows its harm budget: which steps it has, which share it may have, and what it says when there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from fleet.declared import Canary, Rollback
from fleet.evidence import Outcome, RegionEvidence, Verdict
from flows import spending
from flows.spending import allowance, steps_of
from monitoring.planning import LADDER, Exposure

BY_BUDGET = Canary(harm_budget=40)


def after(attempts: int, bad: int) -> Verdict:
    half = RegionEvidence("eu", attempts // 2, bad, 1000, 0, 1.0, 0.5)
    return Verdict(Outcome.NOT_ENOUGH_DATA, (), 1.0, 20.0, (half, RegionEvidence("us", attempts - attempts // 2, 0, 1000, 0, 1.0, 0.5)))


def work(canary: Canary) -> Any:
    return SimpleNamespace(declared=SimpleNamespace(canary=canary, rollback=Rollback(margin=0.01)))


@pytest.fixture(autouse=True)
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "exposure_of", lambda _work: Exposure(per_second=50, reaction_seconds=4))


def test_without_steps_the_whole_ladder_is_there_to_climb() -> None:
    assert tuple(step.weight for step in steps_of(BY_BUDGET)) == LADDER
    assert steps_of(Canary()) == Canary().steps


def test_declared_steps_are_walked_by_their_times_whatever_the_budget() -> None:
    declared = Canary.model_validate({"harm_budget": 40, "steps": [{"weight": 5, "seconds": 1}]})
    assert steps_of(declared) == declared.steps
    assert allowance(work(declared), after(100, 1)) is None


@pytest.mark.parametrize(("attempts", "bad", "percent"), [(0, 0, 10), (400, 0, 50), (400, 30, 10), (400, 39, 1), (400, 40, 0)])
def test_the_share_grows_with_clean_answers_and_falls_with_bad_ones(attempts: int, bad: int, percent: int) -> None:
    allowed = allowance(work(BY_BUDGET), after(attempts, bad))
    assert allowed is not None
    assert allowed.percent == percent
    assert f"has {40 - bad} of 40 bad answers left; at 50.0 requests a second" in allowed.why


def test_a_budget_with_which_no_canary_can_begin_names_the_one_that_would_do() -> None:
    allowed = allowance(work(Canary(harm_budget=3)), after(0, 0))
    assert allowed is not None
    assert allowed.percent == 0
    assert allowed.why.endswith("it affords no share; to begin at all takes a budget of 4")
