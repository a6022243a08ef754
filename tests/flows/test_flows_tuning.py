"""A packaged revision is really started for each place of the grid, and the choice lies beside it wherever it is."""

from __future__ import annotations

import errno
import json
from decimal import Decimal
from pathlib import Path

import pytest
from test_flows_measuring import packaged

from bentos.service.tuning import tuned
from fleet.errors import UnknownName
from fleet.tuning import Point, Tuning
from flows.tuning import Grid, tune
from registry.referrers import TUNING, attach, documents, newest_tuning
from registry.replicate import replicate
from registry.store import ContentStore

GRID = Grid(batch_rows=(1, 64), workers=(1,), seconds=0.3, connections=8)


@pytest.mark.long
def test_a_revision_is_tuned_and_a_region_that_has_it_unpacks_the_choice_beside_it(tmp_path: Path) -> None:
    told: list[Point] = []
    with packaged(tmp_path) as work:
        house, revision = work.house, work.revision
        assert revision is not None
        (region, *_) = house.model("toy").regions
        replicate(revision.digest, house.origin, house.region_store(region))
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


def test_half_a_tuning_never_lies_beside_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service refuses to start beside one that it cannot read."""
    with packaged(tmp_path) as work:
        house, revision = work.house, work.revision
        assert revision is not None
        found = Tuning(revision.digest, "toy", {"cpu": "any", "cores": 1}, 8, 100, (Point(1, 1, Decimal(9), Decimal(1), Decimal(1)),))
        (region, *_) = house.model("toy").regions
        store = house.region_store(region)
        replicate(revision.digest, house.origin, store)
        attach(store, revision.digest, TUNING, found.to_bytes("2026-01-01"))
        write = Path.write_bytes

        def no_room(file: Path, data: bytes) -> int:
            write(file, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "no space left on device")

        (tmp_path / "unpacked").mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", no_room)
            with pytest.raises(OSError, match="no space"):
                house.fetch_from(region)(revision.digest, tmp_path / "unpacked" / "revision")
        assert not (tmp_path / "unpacked" / "revision.tuning").exists()
        house.fetch_from(region)(revision.digest, tmp_path / "unpacked" / "revision")
        assert tuned(tmp_path / "unpacked" / "revision.tuning", {"cpu": "any", "cores": 1}) == {"batch_rows": "1", "workers": "1"}


def test_what_was_never_packaged_is_not_tuned(tmp_path: Path) -> None:
    with packaged(tmp_path) as work, pytest.raises(UnknownName, match="version 9 of model 'toy': was never packaged"):
        tune(work.house, "toy", "9", GRID, lambda point: None)


def test_what_somebody_else_left_beside_a_revision_as_its_tuning_is_none(tmp_path: Path) -> None:
    """Whoever can write rubbish beside a revision stops no server with it."""
    store, subject = ContentStore.at(tmp_path / "store"), "sha256:" + "a" * 64
    sound = {"subject": subject, "at": "2026-01-01", "machine": {"cpu": "x", "cores": 2}, "chosen": {"batch_rows": 8, "workers": 1}}
    for wrong in (b"{", b"[]", b'{"at": "2027"}', b"[" * 100_000):
        attach(store, subject, TUNING, wrong)
    chosen = ({"batch_rows": "8", "workers": 1}, {"batch_rows": 0, "workers": 1}, {"batch_rows": 8, "workers": 65}, {"workers": 1})
    for change in ({"subject": "sha256:" + "b" * 64}, *({"chosen": each} for each in chosen)):
        attach(store, subject, TUNING, json.dumps({**sound, "at": "2028-01-01", **change}).encode())
    assert newest_tuning(store, subject) is None

    older, newer = (json.dumps({**sound, "at": f"{year}-01-01"}).encode() for year in (2025, 2026))
    for document in (newer, older):
        attach(store, subject, TUNING, document)
    assert newest_tuning(store, subject) == newer
