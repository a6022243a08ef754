"""What a model or region leaves behind that fleet.yaml declares no more is found, and told with what a person can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.local.target import LocalTarget
from clouds.serving import RevisionStatus, State
from fleet.errors import Unreachable
from flows import effects
from flows.desires import desires
from flows.fleet_kept import READ, keep_fleet
from flows.house import House
from flows.journal import Journal
from flows.left_behind import left_behind
from flows.plan_stored import keep, kept
from flows.plan_values import Left, Observations
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet
from support.stored import MODEL, packaged, released

FIRST, SECOND, THIRD = REGIONS
Runs = dict[tuple[str, str], str]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What runs, by model and region, whatever fleet.yaml says."""
    found: Runs = {}

    def status(self: LocalTarget, model: str, region: str) -> tuple[RevisionStatus, ...]:
        self._known(region)
        digest = found.get((model, region))
        return () if digest is None else (RevisionStatus(model, region, digest, State.READY),)

    monkeypatch.setattr(LocalTarget, "status", status)
    return found


@pytest.fixture
def house(tmp_path: Path, runs: Runs) -> House:
    """A house whose model was released everywhere by a fleet.yaml that was kept."""
    found = house_without_servers(tmp_path)
    stable = released(found, "1")
    for desire in desires(found.ledger, MODEL):
        journal = Journal(found.ledger, desire, 0, "test")
        journal.record(READ, {"digest": keep_fleet(found, found.fleet_text)})
        for region in REGIONS:
            journal.effect(effects.replicate(region), dict, region=region)
    runs.update({(MODEL, region): stable.digest for region in REGIONS})
    return found


def later(house: House, models: tuple[str, ...], regions: tuple[str, ...] = REGIONS) -> House:
    """Return the house with another fleet.yaml."""
    write_fleet(house.home, toy_fleet(models, regions))
    return House(house.settings, house.home)


def test_nothing_is_left_while_all_is_declared(house: House) -> None:
    assert left_behind(house) == ()


def test_a_model_that_was_taken_out_is_told_with_what_runs_and_what_a_person_does(house: House) -> None:
    found = left_behind(later(house, ("another",)))
    assert [(each.what, each.where) for each in found] == [(MODEL, region) for region in REGIONS]
    assert all("is ready, and fleet.yaml declares it no more" in each.why and "Declare it again" in each.remedy for each in found)


def test_a_region_whose_target_is_not_there_yet_stops_no_look(house: House) -> None:
    fleet = toy_fleet(("another",))
    fleet["regions"][THIRD]["target"] = "aws"
    write_fleet(house.home, fleet)
    found = left_behind(House(house.settings, house.home))
    assert [each.where for each in found] == list(REGIONS)
    assert "nobody knows what runs there" in found[-1].why


def test_a_release_that_nobody_takes_up_any_more_is_told(house: House, runs: Runs) -> None:
    runs.clear()
    under_way = packaged(house, "2")
    (told,) = left_behind(later(house, ("another",)))
    assert (told.what, told.where) == (MODEL, f"{MODEL}-2")
    assert "unfinished" in told.why
    assert under_way.version == "2"


def test_a_region_that_was_taken_out_is_asked_as_the_last_fleet_yaml_had_it(house: House, runs: Runs) -> None:
    without = later(house, (MODEL,), (FIRST, SECOND))
    (told,) = left_behind(without)
    assert (told.what, told.where) == (MODEL, THIRD)
    del runs[MODEL, THIRD]
    assert left_behind(without) == ()


def test_a_region_that_cannot_be_asked_is_told_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    without = later(house, (MODEL,), (FIRST, SECOND))

    def away(self: LocalTarget, model: str, region: str) -> tuple[RevisionStatus, ...]:
        raise Unreachable(f"region '{region}'", "does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(LocalTarget, "status", away)
        (told,) = left_behind(without)
    assert "nobody knows what runs there" in told.why
    for file in house.home.origin_store.joinpath("fleets").iterdir():
        file.write_text("rubbish")
    (told,) = left_behind(without)
    assert (told.what, told.where) == (THIRD, THIRD)
    assert "cannot be asked" in told.why


def test_what_is_left_is_kept_with_what_was_seen(house: House) -> None:
    seen = Observations(house.ledger.now(), (), (Left(MODEL, THIRD, "is ready", "Declare it again."),))
    keep(house.home, seen)
    assert kept(house.home) == seen
    assert [file.name for file in house.home.root.glob("observed*")] == ["observed.json"]
