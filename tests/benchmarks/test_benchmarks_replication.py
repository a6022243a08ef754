"""What a table says of an update is counted: the parts that the one before does not have."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.replication_cases import SMALL, UPDATES, Update, sent_again, trees

DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0008-parts.md"
POINTS = 3.0
"""By how much a figure may differ from the published one, in percent of the file."""
PUBLISHED: dict[str, Callable[[], Update]] = {
    "LightGBM text, 400 trees and 20 more (1.4 MiB)": UPDATES["LightGBM, 20 trees behind 400"][1],
    "LightGBM text, 1600 trees and 80 more (5.4 MiB)": UPDATES["LightGBM, 80 trees behind 1600"][1],
    "LightGBM text, 100 trees and 5 more (0.3 MiB)": lambda: (trees(100), trees(100, 5)),
    "LightGBM text, retrained on 1 % more rows": UPDATES["LightGBM, retrained without 1 % of the rows"][1],
    "random forest (pickle), 100 trees and 10 more (9.4 MiB)": UPDATES["random forest, 10 trees behind 100"][1],
    "random forest, retrained on 1 % more rows": UPDATES["random forest, retrained without 1 % of the rows"][1],
    "float32 tensors, the last twelfth tuned (48 MiB)": UPDATES["float32 tensors, the last twelfth tuned"][1],
    "float32 tensors, all of them tuned": UPDATES["float32 tensors, all of them tuned"][1],
    "1 KiB put in front of the tensors": UPDATES["float32 tensors, 1 KiB put in front"][1],
}
"""The rows of the decision's table that have figures, and how each is made."""


def published() -> dict[str, tuple[float, float]]:
    """Return what the decision says has to be sent of each update, in percent: cut in blocks, and by content."""
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) % \| ([\d.]+) % \|$", DECISION.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: (float(blocks), float(content)) for name, blocks, content in rows}


def test_what_is_there_is_not_sent_and_a_part_that_comes_twice_is_sent_once() -> None:
    chance = random.Random(1)
    before, new = chance.randbytes(20 * SMALL), chance.randbytes(5 * SMALL)
    assert sent_again(before, before) == (0, 0)
    by_content, in_blocks = sent_again(before, before + new)
    assert in_blocks == 0.2
    assert 0.2 <= by_content < 0.45
    assert sent_again(before, new)[1] == 1
    assert sent_again(before, b"x" * SMALL * 4)[1] == 0.25


def test_no_update_is_left_out_that_saves_nothing() -> None:
    assert {name for name in UPDATES if "retrained" in name or "all of them" in name} == {
        "LightGBM, retrained without 1 % of the rows",
        "random forest, retrained without 1 % of the rows",
        "float32 tensors, all of them tuned",
    }


def test_every_figure_of_the_published_table_has_an_update_that_makes_it() -> None:
    assert set(published()) == set(PUBLISHED)
    assert sum(content == 100 for _, content in published().values()) == 3, "what saves nothing is published too"


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_table_of_what_is_sent_again_is_reproduced_within_three_points(name: str) -> None:
    """Made anew from real models, which need not be trained to the same bit everywhere; nothing saved is exactly nothing."""
    blocks, content = published()[name]
    found_content, found_blocks = (100 * part for part in sent_again(*PUBLISHED[name]()))
    assert found_blocks == pytest.approx(blocks, abs=POINTS)
    assert found_content == pytest.approx(content, abs=POINTS)
    if content == 100:
        assert found_content > 100 - POINTS / 10
