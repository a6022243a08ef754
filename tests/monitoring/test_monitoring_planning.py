"""Shares from a harm budget: what they may cost is never more than what is left."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_canary import ERRORS_ALONE

from fleet.declared import Canary, Rollback
from monitoring.planning import LADDER, Exposure, affordable_percent, next_percent, smallest_budget
from monitoring.promotion import Seen, upper_bound

BUSY = Exposure(per_second=50, reaction_seconds=4)


@pytest.mark.parametrize(
    ("budget", "spent", "bound", "percent"),
    [(20, 0, 1.0, 5), (20, 0, 0.1, 50), (20, 10, 1.0, 2), (20, 20, 0.001, 0), (20, 25, 0.001, 0), (20, 0, 0.0, 100), (1, 0, 1.0, 0)],
)
def test_a_share_risks_at_most_half_of_what_is_left(budget: int, spent: int, bound: float, percent: int) -> None:
    assert affordable_percent(budget, spent, bound, BUSY) == percent


def test_the_smallest_budget_affords_the_first_share_and_nothing_less_does() -> None:
    smallest = smallest_budget(BUSY)
    assert affordable_percent(smallest, 0, 1.0, BUSY) >= LADDER[0]
    assert affordable_percent(smallest - 1, 0, 1.0, BUSY) < LADDER[0]


@pytest.mark.parametrize("errors", [1.0, 0.3, 0.05, 0.01])
def test_a_canary_that_climbs_by_its_budget_costs_hardly_more_than_it(errors: float) -> None:
    """However bad it is from its first answer on and whatever the judge says."""
    rng, budget, costs = np.random.default_rng(51), 40, []
    for _ in range(40):
        attempts = bad = 0
        for _tick in range(120):
            bound = upper_bound(Seen(attempts, bad), 0.05)
            weight = next_percent(budget, bad, bound, BUSY)
            requests = int(rng.poisson(BUSY.per_second * BUSY.reaction_seconds * weight / 100))
            attempts, bad = attempts + requests, bad + int(rng.binomial(requests, errors))
        costs.append(bad)
    assert np.quantile(costs, 0.95) <= budget + 2


def test_a_clean_canary_climbs_to_the_top_without_a_timer() -> None:
    attempts = weight = ticks = 0
    while weight < LADDER[-1]:
        weight = next_percent(40, 0, upper_bound(Seen(attempts, 0), 0.05), BUSY)
        attempts, ticks = attempts + round(BUSY.per_second * BUSY.reaction_seconds * weight / 100), ticks + 1
    assert ticks <= 10


def test_the_budget_decides_only_where_no_steps_are_declared() -> None:
    assert Canary(harm_budget=40).follows_budget
    assert not Canary(harm_budget=40, steps=({"weight": 5, "seconds": 1},)).follows_budget  # type: ignore[arg-type]
    assert not Canary().follows_budget
    assert Rollback(margin=0.01, stakes=ERRORS_ALONE).stakes.errors == 1
