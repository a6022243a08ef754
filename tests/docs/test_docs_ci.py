"""CI has a budget, keeps within what it may take, and spends it on what it says."""

from __future__ import annotations

import re
from pathlib import Path

CI = Path(__file__).parents[2] / ".ci"
MOST_MINUTES = 70


def budget() -> dict[str, int]:
    lines = [line.split() for line in (CI / "budget").read_text().splitlines() if line and not line.startswith("#")]
    return {name: int(minutes) for name, minutes, *_ in lines}


def test_the_parts_together_stay_within_what_a_run_may_take() -> None:
    assert sum(budget().values()) <= MOST_MINUTES


def test_every_part_that_is_run_has_its_budget_and_the_other_way_round() -> None:
    assert re.findall(r"^part (\w+) ", (CI / "run").read_text(), re.MULTILINE) == list(budget())
