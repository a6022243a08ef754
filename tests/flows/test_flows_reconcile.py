"""Reconcile starts what was missed, whatever is wrong with an alias; that is told when all else is done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from clouds.serving import State
from fleet.errors import ConvoyError, Denied, UnknownName, Unreachable
from fleet.home import Home
from fleet.phases import ReleasePhase
from fleet.settings import Settings
from fleet.versions import Revision
from flows import observing
from flows import reconcile as module
from flows.desires import model_stream, observe_candidate, open_rollback
from flows.house import House
from flows.journal import Journal
from flows.plan import plan_model
from flows.plan_stored import kept
from flows.plan_values import Kept, Running, SeenRegion, Unseen, Verb, Wanted
from flows.reconcile import reconcile
from registry.ledger import NewEvent
from support.stack import toy_fleet, write_fleet


class Lost:
    """MLflow, without the version that a rollback goes back to: its aliases still name the one before."""

    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    def alias(self, *_: str) -> str:
        return "2"

    def version(self, *_: str) -> None:
        raise self.problem

    def set_alias(self, *_: str) -> None:
        raise self.problem


class Away(Lost):
    """MLflow, which does not answer."""

    def alias(self, *_: str) -> str:
        raise self.problem


LOST = UnknownName("model 'toy' version 1", "is not registered in MLflow")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose release was started."""
    found: list[str] = []
    monkeypatch.setattr(module, "drop_late_runs", lambda: None)
    monkeypatch.setattr(module, "run_deployment", lambda _, parameters, **__: found.append(parameters["model"]))
    return found


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A house whose model `toy` has a rollback under way, which the alias cannot follow; `later` is a model after it."""
    home = Home(tmp_path)
    write_fleet(home, toy_fleet(("toy", "later")))
    found = House(Settings(home=tmp_path), home)
    monkeypatch.setattr(House, "open", lambda: found)
    vars(found)["models"] = Lost(LOST)
    found.ledger.migrate()
    open_rollback(found.ledger, "toy", "1", lambda: "2", "test")
    return found


def reconciled() -> list[str]:
    with disable_run_logger():
        return reconcile.fn()


@pytest.mark.parametrize("problem", [LOST, Denied("MLflow", "says no")])
def test_an_alias_that_cannot_be_set_keeps_no_release_from_going_on(house: House, started: list[str], problem: Exception) -> None:
    vars(house)["models"] = Lost(problem)
    observe_candidate(house.ledger, "later", "2", "test")
    with pytest.raises(type(problem)):
        reconciled()
    assert started == ["toy", "later"]


def test_an_alias_that_cannot_be_set_keeps_no_region_from_being_restored(
    house: House, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1", "2"):
        stable = {"version": version, "digest": f"sha256:{version:0>64}", "release": f"toy-{version}"}
        house.ledger.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))
    back = open_rollback(house.ledger, "toy", "1", lambda: "2", "test")
    journal = Journal(house.ledger, back, 0, "test")
    journal.enter(ReleasePhase.VALIDATING)
    journal.enter(ReleasePhase.REJECTED, "as the test wants it")
    monkeypatch.setattr(observing, "see_region", lambda _house, _wanted, region: SeenRegion(region, (), Kept(holds=True)))
    with pytest.raises(UnknownName, match="version 1"):
        reconciled()
    assert "toy" in started


def test_a_champion_that_no_alias_can_name_starts_no_release_each_minute(house: House) -> None:
    stable = Revision("later", "1", f"sha256:{1:064}")
    seen = observing.observe_model(house, Wanted("later", house.model("later").regions, stable))
    assert seen.champion == Unseen(str(LOST), lasting=True)
    assert plan_model(Wanted("later", (), stable), replace(seen, regions=())).of(Verb.ALIAS) == ()


def test_what_cannot_be_looked_at_starts_nothing_fails_reconcile_and_is_kept_as_unseen(
    house: House, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stable = {"version": "1", "digest": f"sha256:{1:064}", "release": "later-1"}
    house.ledger.append(NewEvent(model_stream("later"), "stable.set", stable, "test", model="later"))
    vars(house)["models"] = Away(Unreachable("MLflow", "does not answer"))
    away = Unseen("does not answer")
    monkeypatch.setattr(observing, "see_region", lambda _house, _wanted, region: SeenRegion(region, away, away))
    with pytest.raises(ConvoyError, match="is not known"):
        reconciled()
    assert "later" not in started
    seen = kept(house.home).of("later")
    assert seen is not None
    assert isinstance(seen.candidate, Unseen)
    assert isinstance(seen.edges[0].routed, Unseen)
    assert all(isinstance(region.running, Unseen) for region in seen.regions)


def test_a_copy_that_is_not_allowed_fails_reconcile_and_starts_no_release_each_minute(
    house: House, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = toy_fleet(("toy", "later"))
    fleet["models"]["later"] |= {"replication": {"classes": ["personal"], "home": "NL"}}
    write_fleet(house.home, fleet)
    bare = House(house.settings, house.home)
    monkeypatch.setattr(House, "open", lambda: bare)
    stable = {"version": "1", "digest": f"sha256:{1:064}", "release": "later-1"}
    house.ledger.append(NewEvent(model_stream("later"), "stable.set", stable, "test", model="later"))
    vars(bare)["models"] = Away(Unreachable("MLflow", "does not answer"))
    served = (Running(f"sha256:{1:064}", State.READY, "127.0.0.1:1"),)
    allowed = Kept(holds=True, names=f"sha256:{1:064}", epoch=1)

    def seen(_house: House, _wanted: Wanted, region: str) -> SeenRegion:
        return SeenRegion(region, served, allowed) if region == "europe-west4" else SeenRegion(region, (), Kept(holds=False))

    monkeypatch.setattr(observing, "see_region", seen)
    with pytest.raises(ConvoyError, match=r"later, us-east-1.*lacks a grant that holds for personal data from NL to US"):
        reconciled()
    assert "later" not in started


def test_what_was_seen_and_cannot_be_kept_keeps_no_release_from_being_started(house: House, started: list[str]) -> None:
    house.home.observed_file.mkdir()
    observe_candidate(house.ledger, "later", "2", "test")
    with pytest.raises(UnknownName):
        reconciled()
    assert started == ["toy", "later"]
    assert list(house.home.root.glob("*.new")) == []
