"""What keeps a release safe on its way: the lease before each act, the newest desire, reasons from the ledger, read-back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from fleet.errors import Busy, OperationFailed, UnknownName, Unreachable
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects, endings
from flows.desires import Desire, Why, ask_again, observe_candidate
from flows.gating import Source, validate
from flows.journal import Journal
from flows.work import Claim, SupersededError, Work
from registry.leases import Leases
from registry.ledger import Ledger
from traffic.edge_state import EdgeState
from traffic.edges import Shifted

REVISION = Revision("toy", "2", "sha256:" + "2" * 64)
STABLE = Revision("toy", "1", "sha256:" + "1" * 64)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.migrate()
    return found


@pytest.fixture
def work(ledger: Ledger) -> Iterator[Work]:
    """A release of version 2 under a lease that is held."""
    desire = observe_candidate(ledger, "toy", "2", "test")
    assert desire is not None
    leases = Leases(ledger)
    lease = leases.take("toy", "test", 30)
    assert lease is not None
    house: Any = SimpleNamespace(ledger=ledger, leases=leases, settings=SimpleNamespace(crash_at=None))
    with leases.held(lease) as held:
        yield Work.of(house, desire, Claim(held))


def taken_over(work: Work) -> None:
    """Let another controller have the model, as after a pause that was longer than the lease."""
    work.house.leases.give_back(work.claim.lease)
    assert work.house.leases.take("toy", "another", 30) is not None


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_ours(ledger: Ledger, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = ledger.now() + timedelta(seconds=600)
    monkeypatch.setattr(ledger, "now", lambda: paused)
    assert work.house.leases.current("toy") is None
    work.check()
    held = work.house.leases.current("toy")
    assert held is not None
    assert held.epoch == work.claim.lease.epoch


def test_a_lease_that_ran_out_and_that_somebody_took_and_left_is_lost(ledger: Ledger, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    taken_over(work)
    paused = ledger.now() + timedelta(seconds=600)
    monkeypatch.setattr(ledger, "now", lambda: paused)
    assert work.house.leases.current("toy") is None
    with pytest.raises(Busy, match="another controller"):
        work.check()


def test_nothing_is_done_to_the_world_once_the_lease_is_lost(work: Work) -> None:
    acts = []
    intended = work.journal.record("effect.intended", {}, intent="before", effect=effects.STABLE)
    taken_over(work)
    with pytest.raises(Busy):
        work.journal.effect(effects.STABLE, lambda: {"acts": len(acts.append(1) or acts)})
    assert acts == []
    assert work.journal.events()[-1] == intended


def test_a_lost_lease_stops_a_release_between_its_effects(work: Work) -> None:
    work.check()
    taken_over(work)
    with pytest.raises(Busy):
        work.check()


def test_an_act_that_broke_off_is_done_again_and_only_then_completed(work: Work) -> None:
    def breaks() -> dict[str, str]:
        raise RuntimeError("killed after the act")

    with pytest.raises(RuntimeError):
        work.journal.effect(effects.PACKAGE, breaks)
    assert not work.journal.completed(effects.PACKAGE)
    assert work.journal.effect(effects.PACKAGE, lambda: {"digest": "done"}) == {"digest": "done"}
    assert work.journal.completed(effects.PACKAGE)


def test_a_newer_desire_takes_a_release_off_the_stage(work: Work) -> None:
    observe_candidate(work.house.ledger, "toy", "3", "test")
    with pytest.raises(SupersededError, match="version 3 is wanted now"):
        work.check()


def test_a_version_that_was_refused_before_the_kill_is_refused_after_it(work: Work, tmp_path: Path) -> None:
    refused = {"refusals": ["schema present: it has none"], "results": [], "evaluation": None}
    work.journal.effect(effects.GATES, lambda: refused)
    source = Source(SimpleNamespace(), tmp_path, "sha256:unread", None)  # type: ignore[arg-type]
    assert validate.fn(work, source) == ("schema present: it has none",)


def test_a_gates_answer_that_cannot_be_read_is_a_no(work: Work, tmp_path: Path) -> None:
    work.journal.effect(effects.GATES, lambda: {"refusals": "lost"})
    source = Source(SimpleNamespace(), tmp_path, "sha256:unread", None)  # type: ignore[arg-type]
    assert validate.fn(work, source) != ()


def test_a_weight_that_an_edge_does_not_report_is_no_weight(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "set_weight", lambda *_: Shifted("toy", (EdgeState("edge", True, ()),), ()))
    with pytest.raises(OperationFailed, match="at 100 % but at"):
        endings._weigh(work, REVISION, STABLE, 100)


@pytest.mark.parametrize(
    ("times", "phase", "says"), [(5, ReleasePhase.CANARY, ""), (6, ReleasePhase.CANARY, "taken up 6 times during the canary")]
)
def test_a_canary_that_kills_its_controllers_is_not_taken_up_for_ever(work: Work, times: int, phase: ReleasePhase, says: str) -> None:
    for each in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING, phase):
        work.journal.enter(each)
    told = [endings.taken_up_too_often(work) for _ in range(times)]
    assert told[-1].startswith(says)
    assert bool(told[-1]) is bool(says)


@pytest.mark.parametrize("phase", [ReleasePhase.CANARY, ReleasePhase.PROMOTING])
def test_a_release_waits_for_what_is_away_as_long_as_that_takes(work: Work, phase: ReleasePhase) -> None:
    for each in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING, phase):
        work.journal.enter(each)
    for _ in range(endings.TAKEN_UP + 5):
        assert endings.taken_up_too_often(work) == ""
        work.journal.interrupted(Unreachable("MLflow", "is away"))
    told = [endings.taken_up_too_often(work) for _ in range(endings.TAKEN_UP + 1)]
    assert told[-1].startswith("taken up ")


@pytest.mark.parametrize("problem", [UnknownName("model 'toy' version 2", "is not registered"), Unreachable("MLflow", "is away")])
def test_a_rollback_ends_although_no_alias_can_name_its_version_and_says_so(work: Work, problem: Exception) -> None:
    def refuses(*_: str) -> None:
        raise problem

    work.house.models = SimpleNamespace(set_alias=refuses)  # type: ignore[misc, assignment]
    back = replace(work, desire=replace(work.desire, why=Why.ROLLBACK))
    with disable_run_logger():
        (left,) = endings.name_champion(back, REVISION)
    assert "alias champion" in left
    with pytest.raises(type(problem)):
        endings.name_champion(work, REVISION)


def test_a_release_that_is_asked_for_again_is_another_one(ledger: Ledger, work: Work) -> None:
    Journal(ledger, work.desire, 0, "test").enter(ReleasePhase.REJECTED)
    assert ask_again(ledger, "toy", "2", "test") == Desire("toy-2", "toy", "2", Why.AGAIN)
