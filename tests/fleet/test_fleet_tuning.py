"""Which batch size and worker count are chosen."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from fleet.errors import OperationFailed
from fleet.tuning import Point, Tuning, choose


def point(batch: int, workers: int, per_second: int, p99: int, failed: int = 0) -> Point:
    return Point(batch, workers, Decimal(per_second), Decimal(p99) / 2, Decimal(p99), failed)


def test_the_highest_throughput_is_taken_whose_p99_keeps_the_limit() -> None:
    slow_and_many = point(256, 2, 9000, 500)
    assert choose([point(16, 1, 3000, 20), point(64, 1, 5000, 40), slow_and_many], 100) == point(64, 1, 5000, 40)
    assert choose([point(16, 1, 3000, 20), slow_and_many], 600) == slow_and_many


def test_of_nearly_equal_ones_the_fewer_workers_and_the_smaller_batch_are_taken() -> None:
    points = [point(256, 2, 1000, 10), point(256, 1, 960, 10), point(64, 1, 955, 10), point(16, 1, 900, 10)]
    assert choose(points, 100) == points[2]


def test_where_none_keeps_the_limit_the_quickest_is_taken() -> None:
    assert choose([point(16, 1, 10, 300), point(64, 1, 99, 400)], 100) == point(16, 1, 10, 300)


def test_what_fails_requests_is_never_taken() -> None:
    assert choose([point(16, 1, 10, 30), point(64, 1, 99, 40, failed=1)], 100) == point(16, 1, 10, 30)
    with pytest.raises(OperationFailed, match="every setting that was tried failed requests"):
        choose([point(16, 1, 10, 30, failed=2)], 100)


def test_a_tuning_names_its_machine_and_everything_that_was_measured() -> None:
    tuning = Tuning("sha256:of-it", "toy", {"cpu": "Some CPU", "cores": 2}, 64, 100, (point(16, 1, 10, 30), point(64, 2, 90, 40)))
    document = json.loads(tuning.to_bytes("2026-01-01T00:00:00+00:00"))
    assert document["machine"] == {"cpu": "Some CPU", "cores": 2}
    assert document["chosen"] == {"batch_rows": 64, "workers": 2}
    assert [each["per_second"] for each in document["measured"]] == ["10", "90"]
    assert tuning.to_bytes("x") == tuning.to_bytes("x")
