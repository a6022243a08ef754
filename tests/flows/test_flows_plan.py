"""The planner: from any state to the wanted one in one plan, and nothing is stopped that a request may still come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from clouds.serving import State
from fleet.errors import InputError, OperationFailed
from fleet.home import Home
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows.desires import Alias, candidate_in, model_stream, observe_candidate, open_rollback
from flows.house import House
from flows.journal import Journal
from flows.plan import edges_unseen, may_be_asked, plan_model
from flows.plan_stored import keep, kept
from flows.plan_values import (
    Kept,
    Observations,
    Of,
    Place,
    Plan,
    Routed,
    Running,
    SeenEdges,
    SeenModel,
    SeenRegion,
    Unseen,
    Verb,
    Waiting,
    Wanted,
)
from flows.wanting import wanted_of, wanted_of_all
from registry.ledger import NewEvent
from support.stack import house_without_servers, toy_fleet, write_fleet

S, A, B, W = (f"sha256:{number:064}" for number in range(1, 5))
STABLE = Revision("m", "1", S)
DECLARED, DROPPED = ("eu", "us", "asia"), "mars"
RULES = "sha256:rules"
WANTED = Wanted("m", DECLARED, STABLE, warm=(W,), adopted=(("eu", B),), rules=RULES)
AWAY = Unseen("does not answer")


@dataclass
class World:
    """What there really is of one model; `apply` does what an action says, and refuses what must not be."""

    running: dict[str, dict[str, tuple[State, str]]]
    holds: dict[str, bool]
    names: dict[str, str | None]
    edges: dict[str, Routed | None]
    champion: str | None

    def seen(self, blind: frozenset[str] = frozenset()) -> SeenModel:
        """Return what is seen of it when some of its parts cannot be asked."""
        regions = tuple(self._region(region, blind) for region in self.running)
        edges = tuple(SeenEdges((name,), AWAY if name in blind else routed) for name, routed in self.edges.items())
        return SeenModel("m", regions, edges, AWAY if "champion" in blind else self.champion, None)

    def _region(self, region: str, blind: frozenset[str]) -> SeenRegion:
        running = tuple(Running(digest, state, at) for digest, (state, at) in self.running[region].items())
        store = Kept(self.holds[region], self.names[region], 3)
        return SeenRegion(region, AWAY if f"{region} running" in blind else running, AWAY if f"{region} store" in blind else store)

    def apply(self, plan: Plan) -> None:
        for action in plan.actions:
            match action.verb:
                case Verb.COPY:
                    self.holds[action.where] = True
                case Verb.START:
                    assert self.holds[action.where], "started without the files"
                    at = self.running[action.where].get(S, (None, f"host:{9000 + len(action.where)}"))[1]
                    self.running[action.where][S] = (State.READY, at)
                case Verb.POINT:
                    assert self.holds[action.where], "named before it is there"
                    self.names[action.where] = S
                case Verb.ROUTE:
                    self.edges[action.where.removeprefix("edge ")] = self._routes()
                case Verb.ALIAS:
                    self.champion = action.what
                case Verb.RETIRE:
                    self._retire(action.where, action.what)
                case Verb.RELEASE:
                    raise AssertionError("no release is under way")

    def _routes(self) -> Routed:
        ready = {region: self.running[region][S][1] for region in DECLARED if self.running[region].get(S, (None,))[0] is State.READY}
        return Routed(((S, 100.0),), tuple(Place(S, region, at) for region, at in ready.items()), RULES)

    def _retire(self, region: str, digest: str) -> None:
        assert digest != S or region == DROPPED, "stable was stopped"
        assert digest != W or region == DROPPED, "what waits for people was stopped"
        for name, routed in self.edges.items():
            asked = routed is not None and any((place.revision, place.region) == (digest, region) for place in routed.places)
            assert not asked, f"{digest} was stopped in {region} while edge {name} may send it requests"
        del self.running[region][digest]


STATES = some.sampled_from((State.READY, State.STARTING, State.FAILED))
PORTS = some.sampled_from(("host:1", "host:2", "host:3"))
RUNNING = some.dictionaries(some.sampled_from((S, A, B, W)), some.tuples(STATES, PORTS), max_size=4)
REGIONS = (*DECLARED, DROPPED)
PLACES = some.lists(
    some.builds(Place, some.sampled_from((S, A, W)), some.sampled_from(REGIONS), PORTS),
    max_size=5,
    unique_by=lambda p: (p.revision, p.region),
)
WEIGHTS = some.sampled_from(((), ((S, 100.0),), ((S, 80.0), (A, 20.0)), ((A, 100.0),)))
ROUTED = some.none() | some.builds(Routed, WEIGHTS, PLACES.map(tuple), some.sampled_from((RULES, "sha256:other")))
WORLDS = some.builds(
    World,
    some.fixed_dictionaries(dict.fromkeys(REGIONS, RUNNING)),
    some.fixed_dictionaries(dict.fromkeys(REGIONS, some.booleans())),
    some.fixed_dictionaries(dict.fromkeys(REGIONS, some.sampled_from((None, S, A)))),
    some.dictionaries(some.sampled_from(("a", "b", "c")), ROUTED, min_size=1, max_size=3),
    some.sampled_from((None, "1", "2")),
)
PARTS = ("champion", "a", "b", "c", *(f"{region} {what}" for region in REGIONS for what in ("running", "store")))
BLIND = some.frozensets(some.sampled_from(PARTS))


@given(WORLDS)
@settings(max_examples=400, deadline=None)
def test_one_plan_brings_any_state_to_the_wanted_one_and_a_second_has_nothing_to_do(world: World) -> None:
    world.apply(plan_model(WANTED, world.seen()))
    assert plan_model(WANTED, world.seen()) == Plan()
    assert all(world.running[region][S][0] is State.READY for region in DECLARED)
    assert {digest for region in REGIONS for digest in world.running[region]} <= {S, W, B}
    assert not world.running[DROPPED]


@given(WORLDS, BLIND)
@settings(max_examples=400, deadline=None)
def test_what_cannot_be_seen_stops_nothing_that_would_not_be_stopped_and_each_is_told(world: World, blind: frozenset[str]) -> None:
    whole, part = plan_model(WANTED, world.seen()), plan_model(WANTED, world.seen(blind))
    assert set(part.of(Verb.RETIRE)) <= set(whole.of(Verb.RETIRE))
    if blind & set(world.edges):
        assert part.of(Verb.RETIRE) == ()
    told = {doubt.where for doubt in part.doubts}
    assert {f"edge {name}" for name in blind & set(world.edges)} <= told
    assert {region for region in REGIONS if {f"{region} running", f"{region} store"} & blind} <= told


@given(WORLDS, BLIND)
@settings(max_examples=400, deadline=None)
def test_a_plan_made_half_blind_never_stops_what_an_edge_may_route_to(world: World, blind: frozenset[str]) -> None:
    for region in REGIONS:
        # A store that cannot be seen is read when the revision is started: that it fails then is not the planner's
        world.holds[region] = world.holds[region] or f"{region} store" in blind
    world.apply(plan_model(WANTED, world.seen(blind)))


@given(WORLDS, BLIND)
@settings(deadline=None)
def test_the_same_state_always_gives_the_same_plan(world: World, blind: frozenset[str]) -> None:
    assert plan_model(WANTED, world.seen(blind)) == plan_model(WANTED, world.seen(blind))


def well() -> World:
    """A world as it is wanted."""
    found = World({region: {} for region in REGIONS}, dict.fromkeys(REGIONS, False), dict.fromkeys(REGIONS), {"a": None, "b": None}, None)
    found.apply(plan_model(WANTED, found.seen()))
    return found


def by_hand_revision(world: World) -> None:
    world.running["us"][A] = (State.READY, "host:7")


def by_hand_adopted(world: World) -> None:
    world.running["us"][B] = (State.READY, "host:7")


def by_hand_table(world: World) -> None:
    routed = world.edges["b"]
    assert routed is not None
    world.edges["b"] = replace(routed, weights=((S, 50.0), (A, 50.0)), places=(*routed.places, Place(A, "us", "host:7")), epoch=9)


def by_hand_pinned(world: World) -> None:
    routed = world.edges["b"]
    assert routed is not None
    world.edges["b"] = replace(routed, places=(*routed.places, Place(A, "us", "host:7")))


def by_hand_champion(world: World) -> None:
    world.champion = "2"


def by_hand_ref(world: World) -> None:
    world.names["eu"] = A


def by_hand_stopped(world: World) -> None:
    world.running["asia"][S] = (State.FAILED, world.running["asia"][S][1])


@pytest.mark.parametrize(
    ("drift", "verb", "where", "says"),
    [
        (by_hand_revision, Verb.RETIRE, "us", "runs and nobody wants it"),
        (by_hand_adopted, Verb.RETIRE, "us", "runs and nobody wants it"),
        (by_hand_table, Verb.ROUTE, "edge b", "does not have all requests (table of epoch 9)"),
        (by_hand_pinned, Verb.ROUTE, "edge b", "can still be asked there"),
        (by_hand_champion, Verb.ALIAS, "champion", "it names 2 instead of 1"),
        (by_hand_ref, Verb.POINT, "eu", "since epoch 3"),
        (by_hand_stopped, Verb.START, "asia", "is failed"),
    ],
)
def test_drift_by_hand_is_one_action_that_says_what_it_saw(drift: Callable[[World], None], verb: Verb, where: str, says: str) -> None:
    world = well()
    drift(world)
    (action,) = plan_model(WANTED, world.seen()).actions
    assert (action.verb, action.where) == (verb, where)
    assert says in action.why


def test_a_revision_that_may_be_asked_is_retired_behind_the_route_that_takes_its_requests() -> None:
    world = well()
    by_hand_revision(world)
    by_hand_table(world)
    verbs = [action.verb for action in plan_model(WANTED, world.seen()).actions]
    assert verbs == [Verb.ROUTE, Verb.RETIRE]
    assert may_be_asked(world.seen(), A)
    world.apply(plan_model(WANTED, world.seen()))
    assert A not in world.running["us"]
    assert not may_be_asked(world.seen(), A)


@pytest.mark.parametrize(
    "routed",
    [AWAY, Routed((), (), RULES), Routed(((S, 100.0),), (Place(A, "us", "host:7"),), RULES), Routed(((S, 99.0), (A, 1.0)), (), RULES)],
    ids=["the edge is away", "its Envoy is silent", "its table has a place for it", "it has a share"],
)
def test_an_edge_may_ask_a_revision_unless_it_was_seen_that_it_does_not(routed: Routed | Unseen) -> None:
    assert may_be_asked(SeenModel("m", (), (SeenEdges(("a",), routed),)), A)


def test_no_edge_at_all_is_none_that_was_seen() -> None:
    assert edges_unseen(SeenModel("m"))


def test_a_dead_region_keeps_no_other_from_being_brought_back() -> None:
    world = well()
    by_hand_stopped(world)
    plan = plan_model(WANTED, world.seen(frozenset({"eu running", "eu store"})))
    assert [(action.verb, action.where) for action in plan.actions] == [(Verb.START, "asia")]
    assert [doubt.where for doubt in plan.doubts_of(Of.REGION)] == ["eu", "eu"]


def test_a_region_that_must_not_get_the_revision_is_told_and_nothing_is_done_about_it_while_the_others_are_brought_back() -> None:
    world = well()
    by_hand_stopped(world)
    world.running["eu"].clear()
    wanted = replace(WANTED, barred=(("eu", "lacks a grant"),))
    assert {action.where for action in plan_model(wanted, world.seen()).actions} >= {"eu", "asia"}, "what is there already stays"
    world.holds["eu"] = False
    plan = plan_model(wanted, world.seen())
    assert [(action.verb, action.where) for action in plan.of(Verb.COPY, Verb.START, Verb.POINT)] == [(Verb.START, "asia")]
    assert all("eu " not in action.why for action in plan.actions)
    (doubt,) = plan.doubts
    assert (doubt.of, doubt.where, doubt.lasting) == (Of.FORBIDDEN, "eu", True)
    assert "lacks a grant" in doubt.why


def test_while_a_release_has_something_to_do_that_is_the_whole_plan() -> None:
    world = World({region: {} for region in REGIONS}, dict.fromkeys(REGIONS, False), dict.fromkeys(REGIONS), {"a": None}, None)
    plan = plan_model(replace(WANTED, waiting=(Waiting("m-2", "2"),)), world.seen())
    assert [(action.verb, action.where, action.why) for action in plan.actions] == [(Verb.RELEASE, "m-2", "m-2 (version 2) is unfinished")]


def test_a_model_that_was_never_promoted_has_nothing_to_be_brought_back() -> None:
    world = well()
    by_hand_revision(world)
    assert plan_model(replace(WANTED, stable=None), world.seen()) == Plan()


@pytest.mark.parametrize(
    ("known", "named", "verb", "what"),
    [
        (Alias("1"), "2", Verb.RELEASE, "2"),
        (Alias("2", owed="1", instead_of="2"), "2", Verb.ALIAS, "1"),
        (Alias("2", owed="1", instead_of="2"), "3", Verb.RELEASE, "3"),
        (Alias(None, owed="1", instead_of=None), None, Verb.ALIAS, "1"),
    ],
    ids=["it moved", "it has to follow a rollback", "it moved on after a rollback", "it is to be set for a rollback"],
)
def test_an_alias_candidate_that_moved_or_has_to_follow_is_in_the_plan(known: Alias, named: str | None, verb: Verb, what: str) -> None:
    (action,) = plan_model(replace(WANTED, candidate=known), replace(well().seen(), candidate=named)).actions
    assert (action.verb, action.what) == (verb, what)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return house_without_servers(tmp_path)


@given(some.lists(some.sampled_from(("1", "2", "3", None, "back to 1", "back to 2")), max_size=6), some.sampled_from(("1", "2", "3", None)))
@settings(max_examples=60, deadline=None)
def test_the_plan_and_who_observes_the_alias_agree_on_what_opens_a_release(story: list[str | None], named: str | None) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        house = house_without_servers(Path(folder))
        now: str | None = None
        for each in story:
            if each is not None and each.startswith("back"):
                open_rollback(house.ledger, "toy", each[-1], lambda now=now: now, "test")  # type: ignore[misc]
            else:
                now = each
                observe_candidate(house.ledger, "toy", now, "test")
        foreseen = candidate_in(house.ledger.stream(model_stream("toy"))).opens(named)
        assert (observe_candidate(house.ledger, "toy", named, "test") is not None) == foreseen
        house.ledger.close()


def test_what_is_wanted_of_all_models_is_what_is_wanted_of_each(house: House) -> None:
    write_fleet(house.home, toy_fleet(("toy", "other", "new")))
    for model in ("toy", "other"):
        desire = observe_candidate(house.ledger, model, "1", "test")
        assert desire is not None
        stable: Mapping[str, Any] = {"version": "1", "digest": S, "release": desire.release}
        house.ledger.append(NewEvent(model_stream(model), "stable.set", stable, "test", model=model))
        journal = Journal(house.ledger, desire, 0, "test")
        journal.enter(ReleasePhase.VALIDATING)
        if model == "toy":
            journal.enter(ReleasePhase.REJECTED, "as the test wants it")
    found = wanted_of_all(house, house.fleet.models)
    assert found == {model: wanted_of(house, model) for model in house.fleet.models}
    assert found["toy"].stable == Revision("toy", "1", S)
    assert found["toy"].waiting == ()
    assert found["other"].waiting == (Waiting("other-1", "1"),)
    assert found["new"].stable is None


@given(some.lists(some.tuples(WORLDS, BLIND), max_size=3))
@settings(max_examples=100, deadline=None)
def test_what_was_seen_is_read_back_as_it_was(worlds: list[tuple[World, frozenset[str]]]) -> None:
    import tempfile

    seen = Observations(datetime.now(UTC), tuple(world.seen(blind) for world, blind in worlds))
    with tempfile.TemporaryDirectory() as folder:
        keep(Home(Path(folder)), seen)
        assert kept(Home(Path(folder))) == seen


def test_stored_observations_that_are_not_there_or_spoilt_are_told_as_such(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(InputError, match="nothing was looked at"):
        kept(home)
    for spoilt in (b"", b"[]", b'{"form": 99}', b'{"form": 1, "at": "now"}'):
        home.observed_file.write_bytes(spoilt)
        with pytest.raises(OperationFailed, match="cannot be read"):
            kept(home)
