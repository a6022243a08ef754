"""Keeping what was promoted where it belongs: a region that is ready gets its requests, at the port that it has now."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clouds.serving import Endpoint, RevisionStatus, State
from fleet.errors import Unreachable
from fleet.home import Home
from fleet.settings import Settings
from fleet.versions import Revision
from flows import keeping
from flows.behind import edges_behind
from flows.house import House
from flows.keeping import route_to_stable
from flows.shipping import point
from flows.work import Claim
from registry.leases import Held, Lease
from support.stack import toy_fleet, write_fleet
from traffic.edge_state import BackendHealth, EdgeState, ModelState, WeightInForce
from traffic.rules import NO_RULES, Rules
from traffic.table import Backend, RoutingTable, Share

HOST = "127.0.0.1"
STABLE = Revision("m", "1", f"sha256:{1:064}")
EVERYTHING = (Share(STABLE.digest, 100),)
AT = {"us-east-1": 1001, "europe-west4": 1002, "southeastasia": 1003}


@dataclass
class World:
    """Regions with a port and a state each, and one edge that holds a table of theirs."""

    ports: dict[str, int | None] = field(default_factory=lambda: dict(AT))
    away: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    ill: set[str] = field(default_factory=set)
    routed: dict[str, int] = field(default_factory=lambda: dict(AT))
    taken: list[RoutingTable] = field(default_factory=list)
    rules: Rules = NO_RULES
    name = "edge"

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        if region in self.silent:
            raise Unreachable(f"region '{region}'", "does not answer")
        port = self.ports[region]
        endpoint = None if port is None else Endpoint(HOST, port)
        state = State.ABSENT if port is None else State.STARTING if region in self.away else State.READY
        return RevisionStatus(model, region, digest, state, endpoint)

    def state(self) -> EdgeState:
        backends = tuple(Backend(STABLE.digest, region, HOST, port) for region, port in self.routed.items())
        table = RoutingTable("m", 1, 1, time.time() + 60, EVERYTHING, EVERYTHING, backends, 100, rules=self.rules)
        health = tuple(BackendHealth(STABLE.digest, region, region not in self.ill) for region in self.routed)
        return EdgeState(self.name, True, (ModelState(table, "", "1", "1", (WeightInForce(STABLE.digest, 100.0),), health),))

    def take(self, _: House, table: RoutingTable) -> None:
        self.routed, self.rules = {backend.region: backend.port for backend in table.backends}, table.rules
        self.taken.append(table)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(House, "target", lambda _, region: made)
    monkeypatch.setattr(keeping, "apply_alone", made.take)
    return made


@pytest.fixture
def house(tmp_path: Path, world: World) -> House:
    home = Home(tmp_path / "home")
    fleet = toy_fleet(("m",))
    write_fleet(home, fleet)
    found = House(Settings(home=home.root), home)
    vars(found)["edges"] = (world,)
    return found


@pytest.fixture
def claim() -> Claim:
    lease = Lease("m", "test", 2, datetime.now(UTC), 60)
    return Claim(Held(lease, lambda lease: replace(lease)))


def test_what_is_routed_where_it_answers_is_left_alone(house: House, world: World) -> None:
    assert edges_behind(house, STABLE) == []


@pytest.mark.parametrize(
    ("ports", "routed", "says"),
    [
        ({**AT, "us-east-1": 2001}, AT, "us-east-1 answers on port 2001, its requests go to 1001"),
        (AT, {"us-east-1": 1001, "europe-west4": 1002}, "southeastasia is ready and gets no requests"),
    ],
    ids=["it came back at another port", "it was declared or was away while the others were routed"],
)
def test_a_region_that_is_ready_and_not_routed_is_behind_and_is_routed(
    house: House, world: World, claim: Claim, ports: dict[str, int | None], routed: dict[str, int], says: str
) -> None:
    world.ports, world.routed = dict(ports), dict(routed)
    (reason,) = edges_behind(house, STABLE)
    assert says in reason
    route_to_stable(house, STABLE, claim)
    assert world.routed == ports
    assert edges_behind(house, STABLE) == []


def test_an_edge_without_the_rules_that_are_declared_is_behind_and_gets_them(house: House, world: World, claim: Claim) -> None:
    fleet = toy_fleet(("m",))
    fleet["models"]["m"] = fleet["models"]["m"] | {"traffic": {"residency": {"marks": {"eu": ["NL"]}}}}
    write_fleet(house.home, fleet)
    assert edges_behind(house, STABLE) == ["edge edge: its rules are not those that fleet.yaml declares for traffic"]
    route_to_stable(house, STABLE, claim)
    assert edges_behind(house, STABLE) == []


def test_a_region_that_is_not_ready_neither_flaps_nor_keeps_one_that_moved_from_its_requests(
    house: House, world: World, claim: Claim
) -> None:
    world.away, world.ports["europe-west4"] = {"europe-west4"}, 2002
    assert edges_behind(house, STABLE) == []
    world.ports["us-east-1"] = 2001
    assert edges_behind(house, STABLE)
    route_to_stable(house, STABLE, claim)
    assert world.routed == {"us-east-1": 2001, "southeastasia": 1003}
    assert edges_behind(house, STABLE) == []
    world.away = set()
    assert "europe-west4 is ready and gets no requests" in edges_behind(house, STABLE)[0]


@pytest.mark.parametrize(
    ("ill", "kept"), [(set(), {"europe-west4": 1002}), ({"europe-west4"}, {})], ids=["it answers requests", "the edge finds it ill as well"]
)
def test_a_region_that_cannot_be_asked_keeps_the_requests_it_answers_and_keeps_none_from_the_others(
    house: House, world: World, claim: Claim, ill: set[str], kept: dict[str, int]
) -> None:
    world.silent, world.ill = {"europe-west4"}, ill
    assert edges_behind(house, STABLE) == []
    world.ports["us-east-1"] = 2001
    (reason,) = edges_behind(house, STABLE)
    assert "us-east-1 answers on port 2001" in reason
    route_to_stable(house, STABLE, claim)
    assert world.routed == {"us-east-1": 2001, "southeastasia": 1003, **kept}
    assert edges_behind(house, STABLE) == []


def test_when_no_region_can_be_asked_the_edges_keep_what_answers(house: House, world: World, claim: Claim) -> None:
    world.silent, world.ill = set(AT), {"southeastasia"}
    route_to_stable(house, STABLE, claim)
    assert world.routed == {"us-east-1": 1001, "europe-west4": 1002}


def test_when_no_region_can_be_asked_and_none_answers_the_tables_stay(house: House, world: World, claim: Claim) -> None:
    world.silent = world.ill = set(AT)
    with pytest.raises(Unreachable, match="us-east-1"):
        route_to_stable(house, STABLE, claim)
    assert not world.taken


def test_when_no_region_is_ready_the_table_keeps_all_that_have_the_revision(house: House, world: World, claim: Claim) -> None:
    world.away, world.ports["southeastasia"] = set(AT), None
    route_to_stable(house, STABLE, claim)
    assert set(world.routed) == {"us-east-1", "europe-west4"}


def test_what_the_models_scores_may_be_stays_known_at_the_edges(house: House, world: World, claim: Claim) -> None:
    fleet = toy_fleet(("m",))
    fleet["models"]["m"]["predictions"] = {"low": 0, "high": 1, "shift": 0.1}
    write_fleet(house.home, fleet)
    route_to_stable(house, STABLE, claim)
    assert (world.taken[-1].score_range, world.taken[-1].score_tolerance) == ((0.0, 1.0), 0.05)


def test_a_store_that_names_the_stable_revision_is_not_written_again_under_a_later_epoch(house: House) -> None:
    store = house.region_store("us-east-1")
    named, other = (Revision("m", str(number), f"sha256:{hashlib.sha256(text).hexdigest()}") for number, text in enumerate((b"{}", b"[]")))
    store.put_blob(named.digest, b"{}")
    store.put_blob(other.digest, b"[]")
    first = point(house, named, "us-east-1", 3)
    assert point(house, named, "us-east-1", 9) == first == store.resolve("m")
    assert point(house, other, "us-east-1", 9).epoch == 9
