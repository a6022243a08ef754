"""Files are cut by content: always the same way, in parts within bounds, and parts that did not change stay the same."""

from __future__ import annotations

import io
import random
from hashlib import sha256

import pytest

from fleet.canonical import digest_of
from fleet.cutting import AVERAGES, FACTOR, LARGEST_AVERAGE, OFFSET, PART_BYTES, WHOLE_BYTES, by_content, in_blocks

LENGTHS = [25367, 31321, 20197, 7589, 5625, 14980, 8225, 8782, 34101, 43813]
NINE_MIB = "sha256:33f6032fe4941a16c1e32354da683d791bd37a0afe56af3932af139fcfcbe8ee"


def cut(data: bytes) -> list[bytes]:
    return list(by_content(io.BytesIO(data), len(data)))


def cut_byte_by_byte(data: bytes, bits: int = 14) -> list[bytes]:
    """The definition, place by place."""
    found, start = [], 0
    while start < len(data):
        most = min(start + (4 << bits), len(data))
        places = range(start + (1 << (bits - 2)), most)
        end = next(
            (end for end in places if (int.from_bytes(data[end - 8 : end], "little") * FACTOR + OFFSET) % 2**64 < 1 << (64 - bits)), most
        )
        found.append(data[start:end])
        start = end
    return found


def resent(before: bytes, after: bytes) -> float:
    """Which part of the bytes of a file has to be sent where the one before is."""
    there = {sha256(part).digest() for part in cut(before)}
    return sum(
        len(part) for part in {sha256(part).digest(): part for part in cut(after)}.values() if sha256(part).digest() not in there
    ) / len(after)


@pytest.mark.parametrize("size", [0, 1, WHOLE_BYTES])
def test_a_small_file_is_one_part(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert cut(data) == ([data] if data else [])


@pytest.mark.parametrize(
    "data", [random.Random(1).randbytes(1_000_003), b"\0" * 500_000, b"leaf_value=0.1 " * 30_000], ids=["noise", "zeros", "text"]
)
def test_the_cuts_are_those_of_the_definition(data: bytes) -> None:
    assert cut(data) == cut_byte_by_byte(data)


def test_the_cuts_stay_where_they_are_for_ever() -> None:
    """A revision's digest covers them: this list must never change."""
    data = random.Random(7).randbytes(200_000)
    assert [len(part) for part in cut(data)] == LENGTHS
    assert digest_of(b"".join(sha256(part).digest() for part in cut(random.Random(8).randbytes(9 << 20)))) == NINE_MIB


def test_every_part_keeps_its_bounds_and_none_is_above_32_mib() -> None:
    data = random.Random(3).randbytes(40 << 20)
    parts = cut(data)
    assert b"".join(parts) == data
    assert all(1 << 16 <= len(part) <= 1 << 20 for part in parts[:-1])
    assert 4 << max(LARGEST_AVERAGE, *(bits for _, bits in AVERAGES)) == PART_BYTES
    assert [len(part) for part in in_blocks(io.BytesIO(data), len(data))] == [PART_BYTES, 8 << 20]


def test_what_is_put_in_front_moves_no_cut_but_the_first() -> None:
    data = random.Random(5).randbytes(4 << 20)
    assert resent(data, b"x" * 1024 + data) < 0.02
    assert resent(data, data[:2_000_000] + b"y" * 77 + data[2_000_000:]) < 0.04


def test_a_model_with_twenty_trees_more_resends_a_seventh_at_most_and_one_that_is_retrained_all_of_it() -> None:
    import lightgbm
    import numpy as np

    chance = np.random.default_rng(0)
    rows = chance.normal(size=(2000, 20))
    labels = (rows[:, 0] * rows[:, 1] + rows[:, 2] + chance.normal(size=2000) > 0).astype(int)
    how = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1, "deterministic": True}
    first = lightgbm.train(how, lightgbm.Dataset(rows, labels), 400)
    longer = lightgbm.train(how, lightgbm.Dataset(rows, labels), 20, init_model=first)
    again = lightgbm.train(how, lightgbm.Dataset(rows[20:], labels[20:]), 400)
    before = first.model_to_string().encode()
    assert resent(before, longer.model_to_string().encode()) <= 0.15
    assert resent(before, again.model_to_string().encode()) > 0.95


def test_tensors_that_were_not_tuned_are_not_sent_again() -> None:
    import numpy as np

    weights = np.random.default_rng(0).normal(size=6 << 20).astype("f4")
    tuned, all_tuned = weights.copy(), weights + np.float32(0.01)
    tuned[11 * (1 << 19) :] += np.float32(0.01)
    assert 1 / 12 <= resent(weights.tobytes(), tuned.tobytes()) <= 1 / 12 + 0.03
    assert resent(weights.tobytes(), all_tuned.tobytes()) == 1
