"""A packaged revision is really started for each place of the grid, and the choice lies beside it wherever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_flows_measuring import packaged

from fleet.errors import UnknownName
from fleet.tuning import Point
from flows.tuning import Grid, tune
from registry.referrers import TUNING, documents, newest_tuning
from registry.store import copy

GRID = Grid(batch_rows=(1, 64), workers=(1,), seconds=0.3, connections=8)


def test_a_revision_is_tuned_and_a_region_that_has_it_unpacks_the_choice_beside_it(tmp_path: Path) -> None:
    told: list[Point] = []
    with packaged(tmp_path) as work:
        house, revision = work.house, work.revision
        assert revision is not None
        (region, *_) = house.model("toy").regions
        copy(revision.digest, house.origin, house.region_store(region))
        found, kept = tune(house, "toy", None, GRID, told.append)
        assert [(point.batch_rows, point.workers, point.failed) for point in told] == [(1, 1, 0), (64, 1, 0)]
        assert min(point.per_second for point in told) > 0
        assert found.chosen in told
        (document,) = documents(house.region_store(region), revision.digest, TUNING)
        assert json.loads(document)["chosen"]["workers"] == 1
        assert newest_tuning(house.origin, revision.digest) == document
        assert house.origin.get_part(kept.digest) == document
        unpacked = tmp_path / "unpacked" / "revision"
        unpacked.parent.mkdir()
        house.fetch_from(region)(revision.digest, unpacked)
        assert unpacked.with_name("revision.tuning").read_bytes() == document
        assert not (house.home.work / "tune-toy").exists()


def test_what_was_never_packaged_is_not_tuned(tmp_path: Path) -> None:
    with packaged(tmp_path) as work, pytest.raises(UnknownName, match="version 9 of model 'toy': was never packaged"):
        tune(work.house, "toy", "9", GRID, lambda point: None)
