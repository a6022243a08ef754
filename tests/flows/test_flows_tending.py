"""Tending the stores: what rots or is lost in one region comes from another, with an event for each act."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from clouds.local.target import LocalTarget
from clouds.serving import Deployment
from control.doctor import scrubbed as doctor
from control.doctor.case import Case
from control.doctor.findings import Level
from fleet.errors import IntegrityError, UnknownName
from flows import anti_entropy as module
from flows import tending
from flows.house import House
from flows.tending import LEFT, ORIGIN, REPAIRED, SCRUBBED, STORES, Tended, tend
from flows.wanted import named_beside, wanted
from flows.work import claim, proven_revision
from registry import entropy
from registry.scrub import Kind
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet
from support.stored import MODEL, blob_file, flip_one_byte, packaged, promoted, released, replicated

FIRST, SECOND, THIRD = REGIONS


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


def tended(house: House, only: str | None = None, everything: bool = True) -> Tended:
    with claim(house, STORES, "test") as held, disable_run_logger():
        assert held is not None
        return tend(house, held, "test", lambda _: None, only, everything)


def kinds(house: House, name: str) -> list[str]:
    return [event.type for event in house.ledger.stream(f"store/{name}")]


def roots(house: House) -> set[str]:
    return {found.digest for region in REGIONS if (found := entropy.root(house.region_store(region), MODEL)) is not None}


def test_well_kept_stores_are_read_and_nothing_is_done(house: House) -> None:
    released(house, "1")
    found = tended(house)
    assert (set(found.passes), found.repaired, found.problems) == ({ORIGIN, *REGIONS}, [], [])
    assert all(seen.read == seen.blobs > 0 and seen.faults == () for seen in found.passes.values())
    assert kinds(house, FIRST) == [SCRUBBED]
    assert all(seen.read == 0 for seen in tended(house, everything=False).passes.values())


def test_one_byte_that_is_wrong_in_one_region_is_repaired_and_the_bad_copy_kept(house: House, tmp_path: Path) -> None:
    revision = released(house, "1")
    store = house.region_store(SECOND)
    part = max(store.manifest(revision.digest).parts(), key=lambda found: found.size)
    bad = flip_one_byte(blob_file(store, part.digest))
    with pytest.raises(IntegrityError):
        store.fetch_tree(revision.digest, tmp_path / "served")
    assert not (tmp_path / "served").exists(), "nothing is served that was not verified"
    found = tended(house)
    assert len(found.repaired) == 1
    assert (kinds(house, SECOND), kinds(house, FIRST)) == ([SCRUBBED, tending.INTENDED, REPAIRED], [SCRUBBED])
    assert store.get_blob(part.digest) == house.origin.get_blob(part.digest)
    (aside,) = store.notes("quarantine")
    assert store.noted("quarantine", aside) == bad
    store.fetch_tree(revision.digest, tmp_path / "served")
    assert tended(house).repaired == []


def test_a_region_that_lost_everything_has_what_must_stay_after_one_run(house: House) -> None:
    kept = [released(house, str(version)) for version in range(1, 7)][-house.settings.keep_revisions :]
    shutil.rmtree(house.home.region_store(THIRD))
    found = tended(house)
    assert found.problems == []
    store = house.region_store(THIRD)
    assert set(entropy.members(store, MODEL)) == {revision.digest for revision in kept}
    for revision in kept:
        assert [part for part in store.manifest(revision.digest).parts() if not store.has_blob(part.digest)] == []
    assert len(found.repaired) == len(kept)


def test_regions_that_hold_the_same_have_one_root_and_a_lost_one_is_found_by_it(house: House) -> None:
    for version in ("1", "2"):
        revision = released(house, version)
    assert len(roots(house)) == 1
    store = house.region_store(FIRST)
    blob_file(store, revision.digest).unlink()
    entropy.change(store, MODEL, remove=[revision.digest])
    assert len(roots(house)) == 2
    assert tended(house).problems == []
    assert len(roots(house)) == 1
    assert store.manifest(revision.digest).digest == revision.digest


def test_what_nobody_wants_any_more_is_not_brought_back(house: House) -> None:
    old = released(house, "1")
    for version in range(2, 3 + house.settings.keep_revisions):
        released(house, str(version))
    store = house.region_store(FIRST)
    blob_file(store, old.digest).unlink()
    entropy.change(store, MODEL, remove=[old.digest])
    found = tended(house)
    assert (found.repaired, found.problems) == ([], [])
    assert not store.has_blob(old.digest)


@pytest.mark.parametrize("damage", ["gone", "never made"])
def test_a_tree_that_is_damaged_or_was_never_made_is_made_from_what_is_there(house: House, damage: str) -> None:
    for version in range(1, 30):
        revision = packaged(house, str(version))
        replicated(house, revision)
        promoted(house, revision)
    (before,) = roots(house)
    store = house.region_store(SECOND)
    if damage == "gone":
        for region in REGIONS:
            blob_file(house.region_store(region), before).unlink()
    else:
        shutil.rmtree(Path(store.name) / "refs" / "trees")
    tended(house)
    assert roots(house) == {before}
    assert len(list(entropy.members(store, MODEL))) == 29


def test_what_no_store_has_is_told_and_keeps_no_other_from_its_repair(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = released(house, "1")
    other, lost = list(house.origin.manifest(revision.digest).parts())
    for name in (ORIGIN, *REGIONS):
        blob_file(tending.store_of(house, name), lost.digest).unlink()
    flip_one_byte(blob_file(house.region_store(FIRST), other.digest))
    found = tended(house)
    assert len(found.problems) == 4
    assert [problem.subject for problem in found.problems if lost.digest not in problem.subject] == []
    assert len(found.repaired) == 1
    assert kinds(house, SECOND) == [SCRUBBED, tending.INTENDED, LEFT]
    case = Case(house)
    told = [finding for finding in doctor.scrubbed(case) if finding.level is Level.PROBLEM]
    assert [finding.remedy for finding in told] == [f"convoy scrub --region {name}" for name in (ORIGIN, *REGIONS)]
    house.origin.put_blob(lost.digest, b"the service")
    assert tended(house).problems == []
    assert [finding.level for finding in doctor.scrubbed(case)] == [Level.OK] * 4


def test_what_is_none_of_ours_is_told_and_neither_touched_nor_a_problem(house: House) -> None:
    released(house, "1")
    aliens = [Path(house.region_store(FIRST).name) / name for name in ("notes.txt", "blobs/sha256/notes.txt")]
    for alien in aliens:
        alien.write_text("mine")
    found = tended(house)
    assert [fault.kind for fault in found.passes[FIRST].faults] == [Kind.ALIEN, Kind.ALIEN]
    assert (found.repaired, found.problems) == ([], [])
    assert [alien.read_text() for alien in aliens] == ["mine", "mine"]


def test_a_store_that_cannot_be_opened_keeps_no_other_from_being_tended(house: House) -> None:
    released(house, "1")
    shutil.rmtree(house.home.region_store(SECOND))
    house.home.region_store(SECOND).touch()
    found = tended(house)
    assert set(found.passes) == {ORIGIN, FIRST, THIRD}
    assert len(found.problems) == 1


def test_one_store_is_tended_alone_and_an_unknown_one_is_refused(house: House) -> None:
    released(house, "1")
    assert set(tended(house, only=FIRST).passes) == {FIRST}
    with pytest.raises(UnknownName, match="nowhere"):
        tended(house, only="nowhere")


def test_files_that_a_region_serves_from_are_unpacked_again_where_they_differ(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = released(house, "1")
    deployment = Deployment(MODEL, FIRST, revision.digest)
    folder = house.home.revisions(FIRST) / revision.digest.removeprefix("sha256:")
    house.fetch_from(FIRST)(revision.digest, folder)
    deployed: list[Deployment] = []

    def deploy(self: LocalTarget, wanted: Deployment, fetch: Any) -> None:
        shutil.rmtree(folder)
        fetch(wanted.digest, folder)
        deployed.append(wanted)

    # No supervisor runs here that could hold a placement
    monkeypatch.setattr(LocalTarget, "unpacked", lambda self, region: ((deployment, folder),) if region == FIRST else ())
    monkeypatch.setattr(LocalTarget, "deploy", deploy)
    assert tended(house).repaired == []
    flip_one_byte(folder / "model.bin")
    with claim(house, MODEL, "a release"):
        (problem,) = tended(house).problems
        assert "is held by a release" in problem.reason
    assert tended(house).problems == []
    assert deployed == [deployment]
    assert tended(house).repaired == []


def test_what_must_stay_is_the_last_stable_ones_and_what_is_under_way(house: House) -> None:
    revisions = [released(house, str(version)) for version in range(1, 6)]
    under_way = packaged(house, "6")
    kept = {revision.digest for revision in revisions[-house.settings.keep_revisions :]}
    assert wanted(house, MODEL) == kept | {under_way.digest}
    assert named_beside(house, MODEL, wanted(house, MODEL)) == wanted(house, MODEL)


def test_the_flow_tends_all_then_raises_the_first_problem(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(House, "open", lambda: house)
    monkeypatch.setattr(module, "drop_late_runs", lambda: None)
    monkeypatch.setattr(module, "markdown", lambda text, **_: shown.append(text))
    revision = released(house, "1")
    with disable_run_logger():
        assert "0 faults" in module.anti_entropy.fn()
        part = next(house.origin.manifest(revision.digest).parts())
        for name in (ORIGIN, *REGIONS):
            blob_file(tending.store_of(house, name), part.digest).unlink()
        # What was read lately is missed all the same: it is listed
        with pytest.raises(IntegrityError, match="no peer has it"):
            module.anti_entropy.fn()
        with claim(house, STORES, "another"):
            assert module.anti_entropy.fn() == "another run tends the stores"
    assert len(shown) == 2
    assert "## Not repaired" in shown[1]


def test_a_revision_is_brought_to_no_region_in_which_it_must_not_lie(house: House) -> None:
    revision = released(house, "1")
    shutil.rmtree(house.home.region_store(THIRD))
    fleet = toy_fleet((MODEL,))
    fleet["models"][MODEL] = fleet["models"][MODEL] | {"replication": {"within": ["US", "NL"]}}
    write_fleet(house.home, fleet)
    heard: list[str] = []
    later = House(house.settings, house.home)
    with claim(later, STORES, "test") as held, disable_run_logger():
        assert held is not None
        found = tend(later, held, "test", heard.append)
    assert not later.region_store(THIRD).has_blob(revision.digest)
    assert found.repaired == []
    assert found.problems == [], "a region that is left without is as it must be, and keeps no garbage from being collected"
    assert any(THIRD in line and "must not lie in SG" in line for line in heard)


def test_what_a_region_lacks_comes_from_its_own_provider_before_it_crosses_a_border(house: House) -> None:
    revision = released(house, "1")
    house.fleet.regions[THIRD] = house.fleet.regions[THIRD].model_copy(update={"provider": house.fleet.regions[SECOND].provider})
    shutil.rmtree(house.home.region_store(THIRD))
    (told,) = tended(house).repaired
    assert told.endswith(f"came from {house.region_store(SECOND).name}")
    part = max(house.origin.manifest(revision.digest).parts(), key=lambda found: found.size)
    flip_one_byte(blob_file(house.region_store(THIRD), part.digest))
    (told,) = tended(house).repaired
    assert f"came from {house.region_store(SECOND).name}," in told


@pytest.mark.parametrize("lost", ["its manifest", "all of it"])
def test_what_must_stay_and_is_lost_where_it_was_packaged_comes_back_from_a_region(house: House, lost: str) -> None:
    """Nothing in the origin names a revision: that it must be there the ledger alone says."""
    before, stable = released(house, "1"), released(house, "2")
    if lost == "all of it":
        shutil.rmtree(house.home.origin_store)
        vars(house).pop("origin", None)
    else:
        blob_file(house.origin, before.digest).unlink()
    assert proven_revision(house, MODEL, "1") is None, "a rollback would find nothing"
    found = tended(house)
    assert found.problems == []
    assert proven_revision(house, MODEL, "1") == before
    for revision in (before, stable):
        assert all(house.origin.get_part(part.digest) for part in house.origin.manifest(revision.digest).parts())
    assert tended(house).repaired == []


def test_a_region_that_lost_a_revision_which_its_tree_still_lists_gets_it_back(house: House) -> None:
    """No reference names the revision before, and by the trees the regions still hold the same."""
    before, _ = released(house, "1"), released(house, "2")
    store = house.region_store(SECOND)
    blob_file(store, before.digest).unlink()
    assert len(roots(house)) == 1
    (told,) = tended(house).repaired
    assert told.startswith(f"{SECOND}: revision ")
    assert store.manifest(before.digest).digest == before.digest
    assert len(roots(house)) == 1
    assert tended(house).repaired == []
