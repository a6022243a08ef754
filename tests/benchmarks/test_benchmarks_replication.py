"""What a table says of an update is counted: the parts that the one before does not have."""

from __future__ import annotations

import random

from benchmarks.replication_cases import SMALL, UPDATES, sent_again


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
