"""A rollback over three real edges of which one is dead, hung or out of reach: it ends, and says how it knows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, Load, RealEdge, begin_anew, edges_in, envoy_percent, wait_until
from prefect.logging import disable_run_logger

from clouds.serving import Endpoint, RevisionStatus, State
from fleet.declared import Step
from fleet.errors import Unreachable
from fleet.evidence import Outcome, Verdict
from fleet.home import Home
from fleet.phases import ReleasePhase
from fleet.settings import Settings
from fleet.versions import Revision
from flows import canary, effects, endings, withdrawing
from flows.desires import model_stream, observe_candidate
from flows.endings import UNKNOWN, roll_back, supersede
from flows.house import House
from flows.judging import Judged
from flows.keeping import give_all_to_stable
from flows.routing import Deal, set_weight
from flows.stages import Stage
from flows.withdrawing import withdraw
from flows.work import Claim, Work
from monitoring.share import MeasuredShare
from registry.ledger import JSON, NewEvent
from support.epochs import go_on_from
from support.stack import REGIONS, toy_fleet, write_fleet
from traffic import edge_client

MODEL = "employment"
REVISION, BEFORE = Revision(MODEL, "2", CANARY), Revision(MODEL, "1", STABLE)
TABLE_SECONDS = 4.0


@dataclass
class Regions:
    """Where the harness's upstreams answer; what is retired is noted and goes on answering."""

    places: dict[tuple[str, str], int]
    retired: list[tuple[str, str]] = field(default_factory=list)

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        gone = (region, digest) in self.retired
        endpoint = None if gone else Endpoint("127.0.0.1", self.places[digest, region])
        return RevisionStatus(model, region, digest, State.ABSENT if gone else State.READY, endpoint)

    def status(self, model: str, region: str) -> tuple[RevisionStatus, ...]:
        found = (self.status_of(region, model, digest) for digest in (STABLE, CANARY))
        return tuple(status for status in found if status.state is State.READY)

    def retire(self, region: str, model: str, digest: str) -> None:
        self.retired.append((region, digest))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealEdge, ...]]:
    with edges_in(tmp_path_factory.mktemp("edges"), REGIONS) as several:
        yield several


@pytest.fixture
def edges(standing: tuple[RealEdge, ...]) -> tuple[RealEdge, ...]:
    begin_anew(standing)
    return standing


@pytest.fixture
def regions(edges: tuple[RealEdge, ...]) -> Regions:
    return Regions(edges[0].places)


@pytest.fixture
def work(tmp_path: Path, edges: tuple[RealEdge, ...], regions: Regions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """A release in its canary: a fifth of the requests at each of three edges."""
    home = Home(tmp_path / "home")
    write_fleet(home, toy_fleet((MODEL,)))
    house = House(Settings(home=home.root, table_seconds=TABLE_SECONDS, lease_seconds=60), home)
    vars(house)["edges"] = tuple(edge.client for edge in edges)
    monkeypatch.setattr(House, "target", lambda *_: regions)
    monkeypatch.setattr(endings, "show_ending", lambda *_: None)
    monkeypatch.setattr(withdrawing, "CLOCKS_APART", 0.5)
    monkeypatch.setattr(withdrawing, "ASKED_SECONDS", 1.0)
    house.ledger.migrate()
    go_on_from(house.ledger, MODEL, edges[0].epoch)
    stable = {"version": "1", "digest": STABLE, "release": "employment-0"}
    house.ledger.append(NewEvent(model_stream(MODEL), "stable.set", stable, "test", epoch=0, model=MODEL))
    desire = observe_candidate(house.ledger, MODEL, "2", "test")
    lease = house.leases.take(MODEL, "test", 60)
    assert desire is not None
    assert lease is not None
    with house.leases.held(lease) as held, disable_run_logger():
        found = Work.of(house, desire, Claim(held))
        for phase in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING):
            found.journal.enter(phase)
        found.journal.effect(effects.PACKAGE, lambda: {"digest": CANARY})
        found.journal.enter(ReleasePhase.CANARY)
        found.journal.effect(effects.CANARY, lambda: {"since": int(time.time())})
        set_weight(found, REVISION, BEFORE, 20)
        assert [envoy_percent(edge) for edge in edges] == [20, 20, 20]
        yield found


def weighed(work: Work) -> dict[str, object]:
    """Return what the ledger has of the way back."""
    (done,) = (event for event in work.journal.events() if event.type == "effect.completed" and event.effect_key == effects.weight(0))
    return dict(done.payload)


def reasons(work: Work) -> str:
    return "; ".join(endings.entered_because(work))


def after(edges: tuple[RealEdge, ...], act: Callable[[], object]) -> float:
    """Do something in a thread; return after how many seconds the first two edges had none of the canary, once it has ended."""
    worker = threading.Thread(target=act)
    began = time.monotonic()
    worker.start()
    wait_until(lambda: [envoy_percent(edge) for edge in edges[:2]] == [0, 0], 10, "the safe weights")
    taken = time.monotonic() - began
    worker.join(60)
    assert not worker.is_alive()
    return taken


def counted(work: Work) -> Mapping[str, JSON]:
    """Return what the ledger says that the canary did."""
    (found,) = (event for event in work.journal.events() if event.effect_key == effects.COUNT and event.type == "effect.completed")
    return found.payload


def rolled_back(work: Work) -> Callable[[], None]:
    """Return an act that rolls back, in whatever thread it is called."""

    def act() -> None:
        with disable_run_logger():
            roll_back.fn(work, "the canary harms")

    return act


def test_a_rollback_over_living_edges_is_read_back_at_each(work: Work, edges: tuple[RealEdge, ...], regions: Regions) -> None:
    with Load(edges[0], rate=40) as load:
        load.go_on_for(20)
        assert after(edges, rolled_back(work)) < 2
    assert work.phase is ReleasePhase.ROLLED_BACK
    assert load.failed() == []
    told = weighed(work)
    assert told["seen"] == dict.fromkeys(REGIONS, 0)
    assert told["unheard"] == {}
    assert 0 <= float(str(told["spread_seconds"])) < 1
    assert reasons(work) == "the canary harms"
    assert -20_000 < int(str(counted(work)["last_answer_ms"])) < 1000
    assert regions.retired == [(region, CANARY) for region in REGIONS]
    assert all(edge.model().table.shares == edge.model().table.safe for edge in edges)


@pytest.mark.long
def test_a_rollback_with_a_dead_edge_ends_and_names_it_and_delays_no_other(
    work: Work, edges: tuple[RealEdge, ...], regions: Regions
) -> None:
    edges[2].agent.kill()
    edges[2].envoy.kill()
    with Load(edges[0], rate=40) as load:
        load.go_on_for(20)
        assert after(edges, rolled_back(work)) < 1
    assert work.phase is ReleasePhase.ROLLED_BACK
    assert "edge southeastasia does not answer" in reasons(work)
    assert "its tables have expired and its Envoy is dead" in reasons(work)
    assert weighed(work)["edges"] == list(REGIONS[:2])
    assert load.failed() == []
    assert len(regions.retired) == 3
    # What this edge had counted is not there, and the ledger says so
    assert counted(work)["uncounted_edges"] == ["southeastasia"]


def test_an_edge_whose_envoy_was_left_on_stable_counts_as_such_once_its_table_has_expired(work: Work, edges: tuple[RealEdge, ...]) -> None:
    edges[2].client.take_safe_shares(MODEL, work.epoch)
    edges[2].agent.kill()
    began = time.monotonic()
    told = withdraw(work, REVISION, BEFORE)
    assert time.monotonic() - began > TABLE_SECONDS
    assert told["edges"] == list(REGIONS[:2])
    assert "its tables have expired and its Envoy was read with 0 %" in str(told["unheard"])


@pytest.mark.long
def test_an_agent_that_comes_back_in_time_is_read_like_the_others(work: Work, edges: tuple[RealEdge, ...]) -> None:
    edges[2].agent.kill()
    returning = threading.Timer(1.0, edges[2].agent.start)
    returning.start()
    rolled_back(work)()
    returning.join()
    assert work.phase is ReleasePhase.ROLLED_BACK
    assert reasons(work) == "the canary harms"
    assert [envoy_percent(edge) for edge in edges] == [0, 0, 0]


@pytest.mark.long
def test_an_edge_that_still_routes_to_the_canary_fails_the_rollback_and_keeps_its_processes(
    work: Work, edges: tuple[RealEdge, ...], regions: Regions
) -> None:
    edges[2].agent.freeze()
    assert after(edges, rolled_back(work)) < 1
    assert work.phase is ReleasePhase.FAILED
    assert "edge southeastasia still gives the revision 20 %" in reasons(work)
    assert UNKNOWN in reasons(work)
    assert regions.retired == []
    # Nothing is stopped while the edge may route to it, and all is put right once it wakes
    problems = give_all_to_stable(work.house, BEFORE, work.claim)
    assert [isinstance(problem, Unreachable) for problem in problems] == [True]
    assert regions.retired == []
    edges[2].agent.thaw()
    wait_until(lambda: envoy_percent(edges[2]) == 0, 10, "the safe weights")
    assert give_all_to_stable(work.house, BEFORE, work.claim) == []
    assert regions.retired == [(region, CANARY) for region in REGIONS]


@pytest.mark.long
@pytest.mark.parametrize("ending", ["rolled back", "superseded"])
def test_a_weight_that_nobody_can_read_is_said_to_be_unknown(
    work: Work, edges: tuple[RealEdge, ...], regions: Regions, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_client, "SAFE_SECONDS", 1.0)
    edges[2].agent.freeze()
    edges[2].envoy.freeze()
    rolled_back(work)() if ending == "rolled back" else supersede.fn(work, "version 3 is wanted now")
    assert work.phase is ReleasePhase.FAILED
    assert "weight unknown at edge southeastasia" in reasons(work)
    assert regions.retired == []


def test_a_far_edge_that_does_not_answer_has_an_unknown_weight(work: Work, edges: tuple[RealEdge, ...]) -> None:
    edges[2].agent.kill()
    near = work.house.edges
    vars(work.house)["edges"] = (*near[:2], replace(near[2], admin=None))
    rolled_back(work)()
    assert work.phase is ReleasePhase.FAILED
    assert "weight unknown at edge southeastasia: it does not answer" in reasons(work)
    assert "its Envoy cannot be asked from here" in reasons(work)


@pytest.mark.long
def test_a_superseded_release_leaves_the_stage_though_an_edge_is_dead(work: Work, edges: tuple[RealEdge, ...]) -> None:
    edges[2].agent.kill()
    edges[2].envoy.kill()
    supersede.fn(work, "version 3 is wanted now")
    assert work.phase is ReleasePhase.SUPERSEDED
    assert "its Envoy is dead" in reasons(work)


def test_a_revision_that_is_its_own_safety_at_some_edges_is_taken_away_there_too(work: Work, edges: tuple[RealEdge, ...]) -> None:
    set_weight(work, REVISION, BEFORE, 100)
    assert edges[0].model().table.safe[0].revision == CANARY
    rolled_back(work)()
    assert work.phase is ReleasePhase.ROLLED_BACK
    assert [envoy_percent(edge) for edge in edges] == [0, 0, 0]
    assert [edge.model().table.safe[0].revision for edge in edges] == [STABLE] * 3


AT_TWENTY = canary.At(Stage(0, Step(weight=20, seconds=1), last=True), Deal(20), 1000.0)


def test_harm_at_the_edges_that_answer_rolls_back_though_another_is_away(
    work: Work, edges: tuple[RealEdge, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge's word is given here: what is looked at is whether it is heard."""
    edges[2].agent.kill()
    sides = canary.Sides(MODEL, CANARY, STABLE)
    pair = canary.Pair(REVISION, BEFORE, int(time.time()), time.time() - time.monotonic(), canary.Observed(sides, int(time.time())))
    said = {"outcome": Outcome.ROLL_BACK}

    def judged(*_: object) -> object:
        return Judged(Verdict(said["outcome"], ("because",), 30.0, 20.0, ()), {}, None)

    monkeypatch.setattr(canary, "judge_now", judged)
    monkeypatch.setattr(canary, "record", lambda *_: None)
    monkeypatch.setattr(canary, "show_progress", lambda *_: None)
    monkeypatch.setattr(canary, "measured_share", lambda *_, **__: MeasuredShare(0.2, 10, real=True))
    verdict, _ = canary.tick(work, pair, AT_TWENTY)
    assert verdict.outcome is Outcome.ROLL_BACK
    said["outcome"] = Outcome.PROMOTE
    with pytest.raises(Unreachable, match="southeastasia"):
        canary.tick(work, pair, AT_TWENTY)


def test_counting_that_never_ends_is_said_and_does_not_end_a_rollback(
    work: Work, edges: tuple[RealEdge, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawing, "COUNTING_SECONDS", 1.0)
    monkeypatch.setattr(edge_client, "COUNT_SECONDS", 1.0)
    monkeypatch.setattr(withdrawing, "withdraw", lambda *_: {"weight": 0})
    edges[2].agent.freeze()
    rolled_back(work)()
    assert work.phase is ReleasePhase.ROLLED_BACK
    assert "what the revision did last at edge southeastasia was not counted" in reasons(work)
