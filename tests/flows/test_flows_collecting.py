"""Garbage is collected in every store at once, and a release or rollback that begins meanwhile comes first."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from clouds.local.target import LocalTarget
from clouds.serving import RevisionStatus, State
from fleet.errors import IntegrityError, OperationFailed
from fleet.home import Home
from fleet.manifest import Manifest
from fleet.settings import Settings
from flows.collecting import Collected, collect
from flows.desires import observe_candidate, open_rollback, unfinished
from flows.house import House
from flows.tending import ORIGIN, STORES, store_of
from flows.work import claim, proven_revision
from registry.scrub import is_manifest
from registry.store import ContentStore
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet
from support.stored import MODEL, blob_file, packaged, promoted, released, replicated

FIRST, SECOND, THIRD = REGIONS
LATEST = 800
"""By how many turns a rollback begins later at most: about as many as a collection has."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


def collected(house: House, days: float = 60) -> Collected:
    """Collect as if so many days had gone by."""
    with claim(house, STORES, "test") as held, disable_run_logger():
        assert held is not None
        return collect(house, held, "test", lambda _: None, lambda: datetime.now(UTC) + timedelta(days=days))


def twice(house: House) -> Collected:
    """Mark, and a month later sweep."""
    collected(house, days=30)
    return collected(house, days=60)


def dangling(house: House) -> list[str]:
    """Return every blob that a manifest in any store names and that is missing there."""
    missing = []
    for name in (ORIGIN, *REGIONS):
        store = store_of(house, name)
        for found in store.objects("blobs/sha256"):
            digest = "sha256:" + found.path.rpartition("/")[2]
            data = store.get_blob(digest)
            if is_manifest(data):
                parts = Manifest.from_bytes(data).parts()
                missing += [f"{name}: {part.digest} of {digest}" for part in parts if not store.has_blob(part.digest)]
    return missing


def has(house: House, digest: str) -> set[str]:
    return {name for name in (ORIGIN, *REGIONS) if store_of(house, name).has_blob(digest)}


def test_what_no_rollback_needs_any_more_goes_everywhere_and_the_rest_stays(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 7)]
    first = collected(house, days=30)
    assert all(marked.set > 0 for marked in first.marked.values())
    assert all(swept.deleted == () for swept in first.swept.values())
    second = collected(house, days=60)
    everywhere = {ORIGIN, *REGIONS}
    assert [has(house, revision.digest) for revision in revisions] == [set()] * 3 + [everywhere] * 3
    assert dangling(house) == []
    assert all(swept.deleted for swept in second.swept.values())
    types = [event.type for event in house.ledger.stream(f"store/{FIRST}")]
    assert types == ["garbage.marked", "garbage.sweeping", "garbage.swept"]
    assert "0 blobs deleted" in collected(house, days=90).sentence


def test_what_is_young_or_under_way_stays(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    assert collected(house, days=1).swept[ORIGIN].deleted == ()
    under_way = packaged(house, "6")
    replicated(house, under_way, (FIRST,))
    twice(house)
    assert has(house, under_way.digest) == {ORIGIN, FIRST}
    assert has(house, revisions[0].digest) == set()


def test_what_still_runs_in_one_region_stays_in_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    old = revisions[0].digest

    def status(self: LocalTarget, model: str, region: str) -> tuple[RevisionStatus, ...]:
        return (RevisionStatus(model, region, old, State.READY),) if region == SECOND else ()

    monkeypatch.setattr(LocalTarget, "status", status)
    twice(house)
    assert has(house, old) == {ORIGIN, *REGIONS}
    assert has(house, revisions[1].digest) == set()


@pytest.mark.parametrize("taken_out", ["the region of the model", "the model"])
def test_what_still_runs_stays_although_fleet_yaml_knows_it_there_no_more(
    house: House, taken_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge that is away may still send it requests, and whoever starts it again needs its files."""
    revisions = [released(house, str(version)) for version in range(1, 6)]
    old = revisions[0].digest
    fleet = toy_fleet((MODEL,) if taken_out != "the model" else ("another",))
    if taken_out != "the model":
        declared = fleet["models"][MODEL]
        fleet["models"][MODEL] = declared | {"regions": [FIRST, THIRD], "slo": {each: declared["slo"][each] for each in (FIRST, THIRD)}}
    write_fleet(house.home, fleet)
    later = House(house.settings, house.home)

    def status(self: LocalTarget, model: str, region: str) -> tuple[RevisionStatus, ...]:
        return (RevisionStatus(model, region, old, State.READY),) if (model, region) == (MODEL, SECOND) else ()

    monkeypatch.setattr(LocalTarget, "status", status)
    twice(later)
    assert has(house, old) == {ORIGIN, *REGIONS}
    assert has(house, revisions[1].digest) == set()


def test_what_one_regions_store_names_stays_in_all(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    house.region_store(THIRD).point(MODEL, revisions[0].digest, 9)
    twice(house)
    assert has(house, revisions[0].digest) == {ORIGIN, *REGIONS}


def test_nothing_is_deleted_anywhere_while_one_region_cannot_be_asked(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    collected(house, days=30)

    def status(self: LocalTarget, model: str, region: str) -> tuple[RevisionStatus, ...]:
        raise OperationFailed(f"region '{region}'", "does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(LocalTarget, "status", status)
        with pytest.raises(OperationFailed):
            collected(house)
    store = house.home.region_store(SECOND)
    store.rename(store.with_name("away"))
    store.touch()
    with pytest.raises(OperationFailed):
        collected(house)
    assert all(blob_file(store_of(house, name), revisions[0].digest).exists() for name in (ORIGIN, FIRST, THIRD))
    store.unlink()
    store.with_name("away").rename(store)
    assert collected(house).swept[SECOND].deleted != ()


def test_a_manifest_that_is_wrong_is_repaired_before_anything_is_deleted(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    collected(house, days=30)
    blob_file(house.region_store(SECOND), revisions[-1].digest).write_bytes(b'{"files":[')
    with pytest.raises(IntegrityError):
        collected(house)
    assert SECOND in has(house, revisions[0].digest)


def test_a_model_that_a_release_holds_puts_the_deleting_off(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    collected(house, days=30)
    with claim(house, MODEL, "a release"):
        found = collected(house)
    assert "held by a release" in found.put_off
    assert has(house, revisions[0].digest) == {ORIGIN, *REGIONS}
    assert collected(house).put_off == ""
    assert has(house, revisions[0].digest) == set()


def test_a_rollback_that_is_asked_for_in_the_middle_comes_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = [released(house, str(version)) for version in range(1, 7)]
    collected(house, days=30)
    kept = store_of(house, ORIGIN)
    plain = ContentStore.delete_blob
    asked: list[str] = []

    def delete(self: ContentStore, digest: str) -> None:
        plain(self, digest)
        if not asked:
            wanted = next(found for found in revisions[:3] if kept.has_blob(found.digest))
            asked.append(wanted.digest)
            open_rollback(house.ledger, MODEL, wanted.version, lambda: "6", "a person")

    monkeypatch.setattr(ContentStore, "delete_blob", delete)
    found = collected(house)
    assert "was asked for meanwhile" in found.put_off
    assert house.leases.current(MODEL) is None
    assert dangling(house) == []
    (desire,) = unfinished(house.ledger, MODEL)
    assert proven_revision(house, MODEL, desire.version) is not None
    collected(house)
    assert has(house, asked[0]) == {ORIGIN, *REGIONS}


def test_a_model_that_nobody_knew_when_the_collection_began_comes_first_as_well(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody holds its lease, and its first release may be made of what is about to be deleted."""
    revisions = [released(house, str(version)) for version in range(1, 7)]
    collected(house, days=30)
    plain = ContentStore.delete_blob
    deleted: list[str] = []

    def delete(self: ContentStore, digest: str) -> None:
        plain(self, digest)
        deleted.append(digest)
        observe_candidate(house.ledger, "newcomer", "1", "mlflow webhook")

    monkeypatch.setattr(ContentStore, "delete_blob", delete)
    found = collected(house)
    assert "newcomer-1 was asked for meanwhile" in found.put_off
    assert len(deleted) == 1
    assert len([revision for revision in revisions[:3] if house.region_store(THIRD).has_blob(revision.digest)]) == 3
    assert dangling(house) == []


class Turns:
    """Lets one of several threads go on at a time, and which one is drawn anew before each act in a store."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._waiting: set[str] = set()
        self._alive: set[str] = set()
        self._chosen = ""

    def run(self, **acts: Callable[[], None]) -> list[Exception]:
        problems: list[Exception] = []

        def told(name: str, act: Callable[[], None]) -> None:
            try:
                self.wait()
                act()
            except Exception as problem:  # noqa: BLE001 - a test's thread tells of whatever it met
                problems.append(problem)
            finally:
                with self._changed:
                    self._alive.discard(name)
                    self._draw()

        self._alive = set(acts)
        threads = [threading.Thread(target=told, args=item, name=item[0]) for item in acts.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return problems

    def wait(self) -> None:
        """Wait until it is this thread's turn; a thread that takes no part goes on."""
        name = threading.current_thread().name
        if name not in self._alive:
            return
        with self._changed:
            self._waiting.add(name)
            self._draw()
            while self._chosen != name:
                self._changed.wait(60)
            self._chosen = ""

    def _draw(self) -> None:
        if not self._chosen and self._alive and self._waiting >= self._alive:
            self._chosen = self._random.choice(sorted(self._alive))
            self._waiting.discard(self._chosen)
            self._changed.notify_all()


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of five releases, the first two of which have had tombstones for a month."""
    root = tmp_path_factory.mktemp("aged")
    made = house_without_servers(root)
    for version in range(1, 6):
        released(made, str(version))
    collected(made, days=30)
    made.ledger.close()
    return root


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Turns]:
    """Every act in a store is a turn."""
    made: list[Turns] = []
    for verb in ("_create", "_read", "_delete", "blob"):
        plain = getattr(ContentStore, verb)

        def act(self: ContentStore, *given: object, plain: Callable[..., object] = plain) -> object:
            if made:
                made[-1].wait()
            return plain(self, *given)

        monkeypatch.setattr(ContentStore, verb, act)

    def begin(seed: int) -> Turns:
        made.append(Turns(seed))
        return made[-1]

    return begin


def rolled_back(house: House, turns: Turns, later: int) -> None:
    """Go back to version 1, which only a person asks for, as a release does: desire, lease, what is proven, copy, point, end.

    It begins after some turns of the other's.
    """
    for _ in range(later):
        turns.wait()
    open_rollback(house.ledger, MODEL, "1", lambda: "5", "a person")
    while True:
        with claim(house, MODEL, "release flow") as held:
            if held is not None:
                proven = proven_revision(house, MODEL, "1")
                if proven is None:
                    # It is gone whole, and MLflow's version is packaged again
                    proven = packaged(house, "1")
                replicated(house, proven)
                promoted(house, proven)
                return
        turns.wait()


SCHEDULES = [pytest.param(range(20), id="20"), pytest.param(range(20, 200), id="180", marks=pytest.mark.long)]


@pytest.mark.parametrize("seeds", SCHEDULES)
def test_whatever_the_order_of_a_rollback_and_a_collection_no_blob_is_missing(
    aged: Path, tmp_path: Path, turns: Callable[[int], Turns], seeds: range
) -> None:
    ends = set[tuple[bool, bool]]()
    for seed in seeds:
        home = tmp_path / str(seed)
        shutil.copytree(aged, home)
        house = House(Settings(home=home), Home(home))
        order = turns(seed)
        found: list[Collected] = []
        with disable_run_logger():
            problems = order.run(
                collector=lambda: found.append(collected(house)),  # noqa: B023 - run within this turn of the loop
                release=lambda: rolled_back(house, order, random.Random(seed).randrange(LATEST)),  # noqa: B023
            )
        assert problems == [], f"schedule {seed}"
        assert dangling(house) == [], f"schedule {seed}"
        named = {region: house.region_store(region).resolve(MODEL) for region in REGIONS}
        served = {ref.digest for ref in named.values() if ref is not None}
        assert len(served) == 1, f"schedule {seed}"
        assert has(house, *served) == {ORIGIN, *REGIONS}, f"schedule {seed}"
        ends.add((bool(found[0].put_off), any(swept.deleted for swept in found[0].swept.values())))
        house.ledger.close()
        shutil.rmtree(home)
    assert {put_off for put_off, _ in ends} == {True, False}, "some schedules let the collection end, in others the rollback comes first"
