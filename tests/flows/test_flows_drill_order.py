"""What comes before what in a drill: the lease before the look, a release before the drill, every mend before any wait."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from clouds.serving import Capability, Deployment, Endpoint, RevisionStatus, State, Support
from fleet.errors import Busy, Unreachable
from fleet.home import Home
from fleet.settings import Settings
from fleet.versions import Revision
from flows import drill_checks, drilling, reconcile
from flows.desires import observe_candidate
from flows.drill_checks import DrillCheck, DrillPlan, Victim
from flows.drill_journal import DrillJournal, open_drill
from flows.drill_mending import claims, end_open_drills
from flows.drilling import Drill, drill, lose
from flows.house import House
from monitoring.drills import DrillOutcome, Objectives
from support.stack import toy_fleet, write_fleet

REGION, OTHER = "us-east-1", "europe-west4"
STABLE = Revision("m", "1", f"sha256:{1:064}")
VICTIM = Victim(STABLE, REGION, Endpoint("127.0.0.1", 1001), (OTHER,), Objectives(60, 0, 0.01))
WHAT = DrillCheck(REGION, (VICTIM,), ())


@dataclass
class Region:
    """A target that notes what is asked of it in which order; every mend raises `problem` while there is one."""

    calls: list[str] = field(default_factory=list)
    state: State = State.FAILED
    problem: Unreachable | None = None

    def capabilities(self) -> Mapping[Capability, Support]:
        return {Capability.BREAKABLE: Support(True, "")}

    def break_(self, deployment: Deployment) -> None:
        self.calls.append(f"break {deployment.region}")

    def mend(self, deployment: Deployment) -> None:
        self.calls.append(f"mend {deployment.region}")
        if self.problem is not None:
            raise self.problem

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        self.calls.append(f"look {region}")
        return RevisionStatus(model, region, digest, self.state, VICTIM.endpoint)


@pytest.fixture
def region(monkeypatch: pytest.MonkeyPatch) -> Region:
    made = Region()
    monkeypatch.setattr(House, "target", lambda _, name: made)
    return made


@pytest.fixture
def house(tmp_path: Path, region: Region) -> House:
    home = Home(tmp_path / "home")
    write_fleet(home, toy_fleet(("m",)))
    found = House(Settings(home=home.root, deploy_seconds=600), home)
    found.ledger.migrate()
    return found


def test_what_is_lost_is_what_the_region_serves_once_the_models_are_held(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted = DrillCheck(REGION, (replace(VICTIM, revision=Revision("m", "2", f"sha256:{2:064}")),), ())
    monkeypatch.setattr(drilling, "check", lambda *_: WHAT)
    monkeypatch.setattr(drill_checks, "check", lambda *_: promoted)
    monkeypatch.setattr(drilling, "loads", lambda *_: pytest.fail("no request is sent"))
    with pytest.raises(Busy, match="planned for something else: the region serves m version 2"):
        drill(house, DrillPlan(REGION), "test", print)
    assert house.leases.current("m") is None
    assert open_drill(house.ledger, REGION) is None


def test_a_release_that_is_asked_for_ends_the_drill_and_has_the_region_back_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(drilling, "break_", lambda _: observe_candidate(house.ledger, "m", "2", "test"))
    monkeypatch.setattr(drilling, "mend", lambda *_: done.append("mended") or {})
    monkeypatch.setattr(drilling, "results_of", lambda *_: ())
    with ExitStack() as stack:
        held = stack.enter_context(claims(house, ["m"]))
        under_way = Drill(house, DrillPlan(REGION), WHAT, held, (), print, drilling.monotonic_unix())
        under_way.guard()
        report = lose(under_way, DrillJournal.begin(house.ledger, REGION, "test", {"models": {"m": STABLE.digest}}))
    assert (report.outcome, done) == (DrillOutcome.ABORTED, ["mended"])
    assert "m-1 (version 2) waits for it" in report.reasons[0]
    assert open_drill(house.ledger, REGION) is None


def dead_drills(house: House, *regions: str) -> None:
    for name in regions:
        DrillJournal.begin(house.ledger, name, "a drill", {"models": {"m": STABLE.digest}})


def test_every_dead_drills_region_is_mended_before_any_is_waited_for_and_one_that_fails_is_not_waited_for(
    house: House, region: Region
) -> None:
    dead_drills(house, REGION, OTHER)
    done = end_open_drills(house, "test", print)
    assert [call.partition(" ")[0] for call in region.calls] == ["mend", "mend", "look", "look"]
    assert ["m failed" in each for each in done] == [True, True]
    assert (open_drill(house.ledger, REGION), open_drill(house.ledger, OTHER)) == (None, None)


def test_a_drill_whose_region_could_not_be_mended_now_is_ended_by_whoever_can(house: House, region: Region) -> None:
    dead_drills(house, REGION)
    region.problem, region.state = Unreachable("supervisord", "does not answer"), State.READY
    assert end_open_drills(house, "test", print) == []
    assert [event.type for event in house.ledger.stream(f"drill/{REGION}")] == ["drill.started"]
    region.problem = None
    (done,) = end_open_drills(house, "test", print)
    assert "put the region back: m ready" in done


def test_models_do_not_wait_until_a_dead_drills_region_is_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(House, "open", lambda: house)
    monkeypatch.setattr(reconcile, "drop_late_runs", lambda: 0)
    monkeypatch.setattr(reconcile, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(reconcile, "anchor", lambda _: None)
    monkeypatch.setattr(reconcile, "look_at_alias", lambda *_: None)
    monkeypatch.setattr(reconcile, "plans", lambda _: done.append("m") or {})
    monkeypatch.setattr(reconcile, "end_open_drills", lambda *_: done.append("drills") or [])
    reconcile.reconcile.fn()
    assert done == ["m", "drills"]
