"""A stack with an edge in each region: its ports, its programs, and the way from one edge to three and back."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from clouds.local.supervisor import Supervisor, launch
from control.cli import app
from control.doctor import routed
from control.doctor.case import Case
from control.edges import edge_rows, edge_views
from control.stack.components import Site, components, edge_components
from control.stack.down import down
from control.stack.edges import lay_out_edges
from control.stack.ports import CLAIM_OFFSET, FIXED, METER_OFFSET, RUNNER_OFFSET, claimed
from control.stack.records import ensure_credentials, record_stack
from control.stack.waiting import Waiting
from fleet.edges import EDGE, edge_offsets, edge_places, recorded_regions, wanted_regions
from fleet.errors import ConvoyError, Denied, InputError, Refused, UnknownName, Unreachable
from fleet.home import Home
from fleet.settings import EdgeLayout, Settings
from fleet.stack import FIRST_REGION_PORT, Stack
from flows.house import House
from traffic.edge_client import Edge
from traffic.edge_state import EdgeState, ModelState, RegionInForce, WeightInForce
from traffic.edges import EdgeFailure, Looked, look, make_safe
from traffic.memory import Held, Memory
from traffic.rules import Choice, Rules
from traffic.table import Backend, RoutingTable, Share

BASE = 21700
REGIONS = ("us-east-1", "europe-west4", "southeastasia")
FOUR = (*REGIONS, "sa-east-1")


def silent(_: str) -> None:
    pass


@pytest.fixture
def site() -> Iterator[Site]:
    """A home in a short path, for a socket lies in it; whatever runs there is ended."""
    home = Home(Path(tempfile.mkdtemp(prefix="cv-", dir="/tmp")))
    settings = Settings(home=home.root)
    try:
        yield Site(home, settings, record_stack(home, BASE), ensure_credentials(home))
    finally:
        down(settings)
        shutil.rmtree(home.root)


def with_edges(site: Site, layout: EdgeLayout | None) -> Site:
    return Site(site.home, site.settings.model_copy(update={"edges": layout}), site.stack, site.credentials)


def laid_out(site: Site, layout: EdgeLayout | None, declared: tuple[str, ...] = REGIONS) -> House:
    """Lay the edges out and write down nothing else; returns the house as a command opens it now."""
    lay_out_edges(with_edges(site, layout), declared, silent)
    return House(site.settings, site.home)


def test_edges_of_four_regions_find_room_between_the_other_servers_and_the_regions() -> None:
    taken = {port for place in edge_places(Stack("s", BASE), FOUR) for port in (place.port, place.admin_port, place.agent_port)}
    assert len(taken) == 12
    assert taken == {BASE + offset for offset in edge_offsets(FOUR)}
    assert not taken & {BASE + offset for offset in (0, 1, 2, RUNNER_OFFSET, METER_OFFSET, CLAIM_OFFSET)}
    assert max(taken) < BASE + FIRST_REGION_PORT


def test_the_first_edge_answers_where_the_one_edge_did() -> None:
    stack = Stack("s", BASE)
    assert edge_places(stack, REGIONS)[0].url == edge_places(stack, ())[0].url == stack.edge_url


def test_more_regions_than_there_are_ports_for_edges_are_refused_with_the_remedy() -> None:
    with pytest.raises(InputError, match="holds 4 edges, not 5") as caught:
        edge_places(Stack("s", BASE), (*FOUR, "fifth"))
    assert "CONVOY_EDGES=one" in caught.value.remedy


def test_a_stack_with_one_edge_does_not_care_who_has_the_other_edges_ports(listen: Callable[[int], None]) -> None:
    more = max(set(edge_offsets(REGIONS)) - set(FIXED))
    listen(BASE + more)
    with claimed(None, BASE, edge_offsets(())) as base:
        assert base == BASE
    with pytest.raises(InputError, match=f"port {BASE + more}"), claimed(None, BASE, edge_offsets(REGIONS)):
        pass


@pytest.fixture
def listen() -> Iterator[Callable[[int], None]]:
    import socket

    with ExitStack() as held:

        def hold(port: int) -> None:
            server = held.enter_context(socket.socket())
            server.bind(("127.0.0.1", port))
            server.listen()

        yield hold


def test_the_layout_stays_as_it_is_until_the_setting_says_otherwise(site: Site) -> None:
    assert wanted_regions(site.home, None, REGIONS) == ()
    laid_out(site, EdgeLayout.PER_REGION)
    assert wanted_regions(site.home, None, FOUR) == FOUR
    assert wanted_regions(site.home, EdgeLayout.ONE, REGIONS) == ()
    laid_out(site, EdgeLayout.ONE)
    assert recorded_regions(site.home) == ()


def test_a_record_of_edges_that_cannot_be_read_is_named(site: Site) -> None:
    site.home.edges_file.write_text("[")
    with pytest.raises(ConvoyError, match=r"edges\.json.*cannot be read"):
        recorded_regions(site.home)


def test_every_edge_has_a_program_a_folder_a_token_and_ports_of_its_own(site: Site) -> None:
    house = laid_out(site, EdgeLayout.PER_REGION)
    table = edge_components(site)
    assert [component.name for component in table] == [f"{kind}-{region}" for region in REGIONS for kind in ("edge", "agent")]
    assert {component.name for component in table} < {component.name for component in components(site)}
    assert len({component.url for component in table}) == len({component.health for component in table}) == 6
    assert len({component.directory for component in table}) == 3
    assert len({edge.token for edge in house.edges}) == 3
    assert site.credentials.edge_token not in {edge.token for edge in house.edges}
    assert [edge.name for edge in house.edges] == list(REGIONS)


def test_callers_that_choose_no_edge_use_the_first_and_those_of_a_region_the_one_that_stands_there(site: Site) -> None:
    house = laid_out(site, EdgeLayout.PER_REGION)
    assert house.edge_place(None).name == "us-east-1"
    assert house.edge_place("southeastasia").region == "southeastasia"
    assert house.edge_near("europe-west4").name == "europe-west4"
    assert house.edge_near("sa-east-1").name == "us-east-1"
    with pytest.raises(UnknownName, match="known: us-east-1, europe-west4, southeastasia"):
        house.edge_place("mars")


def test_predict_names_the_edges_when_it_is_given_another(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from support.stack import toy_fleet, write_fleet

    write_fleet(site.home, toy_fleet(("toy",)))
    rows = tmp_path / "rows.json"
    rows.write_text("[{}]")
    monkeypatch.setenv("CONVOY_HOME", str(site.home.root))
    done = CliRunner().invoke(app, ["predict", "toy", "--input", str(rows), "--edge", "mars"])
    assert isinstance(done.exception, UnknownName)
    assert "known: edge" in done.exception.reason


def test_three_edges_run_each_with_its_own_token_and_one_takes_over_with_the_tables_and_back(site: Site) -> None:
    """One real supervisor; the edges change from one to three, lose a region, and become one again."""
    launch(site.home, site.stack.stack_id)
    (one,) = started(site, EdgeLayout.ONE)
    stable = "sha256:" + "a" * 64
    places = tuple(Backend(stable, region, "127.0.0.1", 9) for region in REGIONS)
    given = RoutingTable("toy", 3, 1, 4e9, (Share(stable, 100),), (Share(stable, 100),), places, 100)
    Memory.below(site.home.edge(EDGE)).write({"toy": Held(given, "", "3.1", None)})
    restart(site, "agent")
    assert one.state().of("toy").table.epoch == 3

    three = started(site, EdgeLayout.PER_REGION)
    assert [edge.name for edge in three] == list(REGIONS)
    states = look(three).states
    assert [state.of("toy").table.order for state in states] == [(3, 1)] * 3
    assert {state.of("toy").safe_because for state in states} == {"the edge is new"}
    assert {name for name in running(site) if name.startswith(("edge", "agent"))} == {
        f"{kind}-{region}" for region in REGIONS for kind in ("edge", "agent")
    }
    with pytest.raises(Denied):
        Edge(three[0].name, three[0].url, three[1].token).state()
    routes = json.loads((site.home.edge("europe-west4") / "envoy" / "rds.json").read_text())["resources"][0]
    weights = routes["virtual_hosts"][0]["routes"][1]["route"]["weighted_clusters"]["clusters"]
    assert {share["name"].rpartition("/")[2]: share["weight"] for share in weights} == dict.fromkeys(REGIONS, 0) | {"europe-west4": 100}
    assert make_safe(three, "toy", 4).complete

    two = started(site, None, REGIONS[1:])
    assert [edge.name for edge in two] == list(REGIONS[1:])
    assert look(two).failures == ()
    (one,) = started(site, EdgeLayout.ONE)
    assert one.name == EDGE
    assert one.state().envoy_ready
    assert one.state().of("toy").table.order == (4, 0)
    with pytest.raises(Refused, match="not newer"):
        one.apply(given)


def started(site: Site, layout: EdgeLayout | None, declared: tuple[str, ...] = REGIONS) -> tuple[Edge, ...]:
    """Do with the edges what `up` does: lay them out, have them supervised, wait until they are healthy."""
    wanted = with_edges(site, layout)
    lay_out_edges(wanted, declared, silent)
    supervisor = Supervisor.of(site.home)
    for component in edge_components(wanted):
        supervisor.add(component.program(wanted))
        supervisor.start(component.name)
    Waiting(wanted, 60, silent).healthy(*edge_components(wanted))
    return House(site.settings, site.home).edges


def running(site: Site) -> set[str]:
    return {process.name for process in Supervisor.of(site.home).processes() if process.pid}


def restart(site: Site, program: str) -> None:
    supervisor = Supervisor.of(site.home)
    supervisor.stop(program)
    supervisor.start(program)
    Waiting(site, 60, silent).healthy(*edge_components(site))


def model_state(version: str | None, percents: dict[str, float], **more: object) -> ModelState:
    """Return a model that an edge holds in version 3.2, with half for a canary, and of which its Envoy reports a version."""
    stable, canary = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    places = tuple(Backend(revision, "us-east-1", "127.0.0.1", 9) for revision in (stable, canary))
    table = RoutingTable("toy", 3, 2, 4e9, (Share(stable, 50), Share(canary, 50)), (Share(stable, 100),), places, 100)
    found = ModelState(table, "", "3.2", version, tuple(WeightInForce(*share) for share in percents.items()), ())
    return replace(found, **more)  # type: ignore[arg-type]


def test_the_version_that_is_shown_of_an_edge_is_the_one_that_its_envoy_reports() -> None:
    house: Any = SimpleNamespace(edge_places=edge_places(Stack("s", BASE), REGIONS))
    halves = {"sha256:" + "a" * 64: 50.0, "sha256:" + "b" * 64: 50.0}
    behind = EdgeState("us-east-1", True, (model_state("3.1", halves),))
    safe = EdgeState("europe-west4", True, (model_state("3.2", halves, safe_because="the table has expired"),))
    away = EdgeFailure("southeastasia", Unreachable("edge 'southeastasia'", "does not answer"))
    views = edge_views(house, Looked((behind, safe), (away,)))
    assert [(view.region, view.healthy) for view in views.values()] == [(REGIONS[0], True), (REGIONS[1], True), (REGIONS[2], False)]
    assert (views["us-east-1"].models["toy"].version, views["us-east-1"].models["toy"].wanted) == ("3.1", "3.2")
    told = {row[0]: row[2:] for row in edge_rows(views)}
    assert told["us-east-1"] == ("3.1", "aaaaaaaaaaaa 50 %, bbbbbbbbbbbb 50 %", "its agent wrote 3.2")
    assert told["europe-west4"][2] == "on safe weights: the table has expired"
    assert told["southeastasia"] == ("", "", "does not answer")


def test_an_edge_that_chooses_its_regions_says_where_it_sends_requests() -> None:
    house: Any = SimpleNamespace(edge_places=edge_places(Stack("s", BASE), ()))
    places = (RegionInForce("us-east-1", 2.0), RegionInForce("europe-west4", 98.0))
    found = model_state("3.2", {"sha256:" + "a" * 64: 100.0}, regions=places)
    choosing = replace(found, table=replace(found.table, rules=Rules(choice=Choice(2, 1, 0, 0.05, 3, 10, 2))))
    told = {one: edge_rows(edge_views(house, Looked((EdgeState(EDGE, True, (one,)),), ())))[0][4] for one in (found, choosing)}
    assert told == {found: "in force", choosing: "in force; sends to us-east-1 2 %, europe-west4 98 %"}


def test_an_edge_whose_envoy_is_silent_shows_no_version_and_no_weights() -> None:
    house: Any = SimpleNamespace(edge_places=edge_places(Stack("s", BASE), ()))
    views = edge_views(house, Looked((EdgeState(EDGE, False, (model_state(None, {}),)),), ()))
    assert edge_rows(views) == [(EDGE, "toy", "", "", "its Envoy does not answer")]


def test_the_doctor_names_each_edge_that_does_not_answer_and_regions_that_have_none(site: Site) -> None:
    from support.stack import toy_fleet, write_fleet

    write_fleet(site.home, toy_fleet(("toy",)))
    house = laid_out(site, EdgeLayout.PER_REGION, (*REGIONS[:2], "mars"))
    house.ledger.migrate()
    found = tuple(routed.edges(Case(opened=house)))
    assert [finding.subject for finding in found] == ["edge 'us-east-1'", "edge 'europe-west4'", "edge 'mars'", "edges"]
    assert all(f"agent-{region}.log" in finding.remedy for region, finding in zip((*REGIONS[:2], "mars"), found, strict=False))
    assert "mars, southeastasia" in found[-1].reason
