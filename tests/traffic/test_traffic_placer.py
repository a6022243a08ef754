"""What an agent makes of its choice: the routes follow it, a new agent remembers it, no revision's share moves."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from edge_harness import CANARY, STABLE
from test_traffic_attempts_lines import attempt_line

from support.ports import free_port
from traffic.attempts.fold import Fold
from traffic.attempts.terms import Terms
from traffic.attempts.timings import Timings
from traffic.envoy import EdgePorts
from traffic.gateway import bootstrap
from traffic.identity import EdgeIdentity
from traffic.keeper import Keeper
from traffic.memory import Held, Memory
from traffic.placer import Placer
from traffic.rules import Choice, Residency, Rules
from traffic.table import Backend, RoutingTable, Share

REGIONS = ("eu", "us", "asia")
RULES = Rules(residency=(Residency("home", ("eu",)),), choice=Choice(2, 1, 0, 0.05, 3, 10, 2))


class World:
    """An edge's folder without an Envoy, and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports = folder / "edge", EdgePorts(free_port(), free_port())
        self.folder.mkdir()
        bootstrap(self.folder, "edge-1", self.ports, 0)
        self.clock = time.time()
        self.timings = Timings()
        self.hold(RULES)

    def hold(self, rules: Rules) -> None:
        places = tuple(Backend(revision, region, "127.0.0.1", 9) for revision in (STABLE, CANARY) for region in REGIONS)
        shares = (Share(STABLE, 90), Share(CANARY, 10))
        table = RoutingTable("employment", 3, 7, self.clock + 9e5, shares, (Share(STABLE, 100),), places, 500, rules=rules)
        Memory.below(self.folder).write({"employment": Held(table, "", "3.7")})
        self.agent()

    def agent(self) -> None:
        """Start as an agent does, with nothing but what stands in the folder."""
        self.keeper = Keeper(EdgeIdentity("edge-1", "eu"), self.folder, self.ports)
        file, began = self.folder / "placement.json", self.clock
        self.placer = Placer(self.keeper, self.timings, file, "eu", lambda: self.clock, lambda: 1000 + self.clock - began)
        self.placer.turn()
        self.keeper.start()

    def live(self, seconds: int, canary_ms: int = 0, **took_ms: int) -> None:
        """Have every region answer for some seconds, with a turn after each; the canary in eu takes more time."""
        for _ in range(seconds):
            self.clock += 1
            end = int(self.clock * 1000)
            answers = [(STABLE, region, took) for region, took in took_ms.items()]
            answers += [(CANARY, region, took + canary_ms * (region == "eu")) for region, took in took_ms.items()]
            lines = [
                attempt_line(str(number), end - took, duration_ms=took, **served(revision, region))
                for revision, region, took in answers
                for number in range(10)
            ]
            Fold(lambda _: Terms(500), mask=str, timings=self.timings).read_attempts(lines, end)
            self.placer.turn()

    def percents(self, route: str = "employment") -> dict[tuple[str, str], float]:
        """Return what the routes file gives each place, in percent of the whole."""
        routes = orjson.loads((self.folder / "envoy" / "rds.json").read_bytes())["resources"][0]["virtual_hosts"][0]["routes"]
        clusters = next(each for each in routes if each["name"] == route)["route"]["weighted_clusters"]["clusters"]
        whole = sum(cluster["weight"] for cluster in clusters)
        return {tuple(cluster["name"].split("/")[1:3]): 100 * cluster["weight"] / whole for cluster in clusters}  # type: ignore[misc]

    def regions(self, route: str = "employment") -> dict[str, float]:
        found = self.percents(route)
        return {region: round(sum(part for (_, place), part in found.items() if place == region), 6) for _, region in found}


def served(revision: str, region: str) -> dict[str, Any]:
    return {"cluster_revision": revision, "cluster_region": region, "host_revision": revision, "host_region": region}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_routes_leave_a_region_that_slows_down_and_residents_stay(world: World) -> None:
    world.live(10, eu=20, us=25, asia=25)
    assert world.regions() == {"eu": 96, "us": 2, "asia": 2}
    world.live(9, eu=220, us=25, asia=25)
    assert world.regions() == {"eu": 2, "us": 49, "asia": 49}
    assert world.regions("employment/in-home") == {"eu": 100}
    world.live(60, eu=20, us=25, asia=25)
    assert world.regions() == {"eu": 96, "us": 2, "asia": 2}


def test_a_canary_that_is_slow_in_one_region_moves_nothing(world: World) -> None:
    world.live(30, canary_ms=400, eu=20, us=25, asia=25)
    assert world.regions() == {"eu": 96, "us": 2, "asia": 2}


def test_each_revision_keeps_its_share_and_is_placed_like_the_others(world: World) -> None:
    world.live(9, eu=220, us=25, asia=25)
    found = world.percents()
    for region, part in world.regions().items():
        assert found[CANARY[7:19], region] == pytest.approx(0.1 * part)
        assert found[STABLE[7:19], region] == pytest.approx(0.9 * part)


def test_an_agent_that_starts_anew_sends_nothing_back_to_where_it_was_slow(world: World) -> None:
    world.live(9, eu=220, us=25, asia=25)
    world.timings = Timings()
    world.agent()
    assert world.regions()["eu"] == 2
    world.live(3, us=25, asia=25)
    assert world.regions()["eu"] == 2


def test_what_it_cannot_read_of_itself_it_finds_out_again(world: World) -> None:
    world.live(9, eu=220, us=25, asia=25)
    (world.folder / "placement.json").write_text("{broken")
    world.agent()
    assert world.regions()["eu"] == 96
    world.live(9, eu=220, us=25, asia=25)
    assert world.regions()["eu"] == 2


def test_a_table_that_declares_no_choice_any_more_is_dealt_out_as_ever(world: World) -> None:
    world.live(9, eu=220, us=25, asia=25)
    world.hold(replace(RULES, choice=None))
    assert world.regions() == {"eu": 100, "us": 0, "asia": 0}
