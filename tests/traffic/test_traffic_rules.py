"""Rules as values: what is consistent, what raises exposure, which clusters and routes follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_traffic_table import CANARY, REGIONS, STABLE, places, table

from fleet.errors import InputError
from traffic.admin import Report
from traffic.clusters import clusters_of
from traffic.envoy import routes_file
from traffic.lanes import PINNED, Lane, lanes_of
from traffic.memory import Held
from traffic.rules import Choice, Limits, Price, Residency, Rules, Shadow, Sticky
from traffic.table import RoutingTable, raised_revisions, table_from_json
from traffic.view import model_state
from traffic.weights import shares_in

EU = Residency("eu", ("eu",))
CHOICE = Choice(latency=2, load=1, price=1, hysteresis=0.05, seconds=3, return_seconds=10, floor_percent=2, prices=(Price("eu", 1000),))
EVERYTHING = Rules("x-pin", Sticky("cookie", "session"), (EU, Residency("world", REGIONS)), "eu", Limits(10, 20), CHOICE)


def routes(one: RoutingTable) -> dict[str, dict[str, Any]]:
    """Return the model's routes by name, in their order."""
    found = orjson.loads(routes_file([one], "1", "key").content)["resources"][0]["virtual_hosts"][0]["routes"]
    return {route["name"]: route for route in found if route["name"].startswith(one.model)}


def clusters(one: RoutingTable) -> dict[str, dict[str, Any]]:
    return {cluster.name: orjson.loads(cluster.definition) for cluster in clusters_of(one)}


def hosts(cluster: dict[str, Any]) -> set[tuple[str, str]]:
    """Return every place that a cluster may ever send a request to."""
    groups = cluster["load_assignment"]["endpoints"]
    metadata = [host["metadata"]["filter_metadata"]["convoy"] for group in groups for host in group["lb_endpoints"]]
    return {(each["revision"], each["region"]) for each in metadata}


def test_a_table_that_asks_for_everything_survives_its_json() -> None:
    asked = replace(table(), rules=EVERYTHING, shadow=Shadow(CANARY, 10))
    assert table_from_json(asked.to_json()) == asked


def test_a_table_that_asks_for_nothing_is_written_and_read_as_ever() -> None:
    assert set(orjson.loads(table().to_json())) == {"model", "epoch", "version", "expires_at", "shares", "safe", "backends", "latency_ms"}
    assert set(routes(table())) == {"employment/unknown-residency", "employment/drill", "employment"}
    assert len(clusters(table())) == 2 * len(REGIONS)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (Rules(pin_header="X-Pin"), "pin_header 'X-Pin' must be a header's name"),
        (Rules(pin_header="x-convoy-traffic"), "has another meaning already"),
        (Rules(pin_header="x-envoy-retry-on"), "has another meaning already"),
        (Rules(pin_header="x-user", sticky=Sticky("header", "x-user")), "is the pin_header too"),
        (Rules(sticky=Sticky("cookie", "a=b")), "sticky cookie 'a=b' must match"),
        (Rules(residency=(EU, EU)), "names a mark twice"),
        (Rules(residency=(Residency("eu", ()),)), "residency 'eu' must name regions"),
        (Rules(residency=(Residency("E U", ("eu",)),)), "residency mark 'E U' must match"),
        (Rules(residency=(EU,), unmarked="us"), "'us', which is none of eu"),
        (Rules(limits=Limits(0, 5)), "limits must be 1 or more"),
        (Rules(choice=replace(CHOICE, load=-1)), "choice must have weights of 0 or more"),
        (Rules(choice=replace(CHOICE, latency=0, price=0)), "choice weighs nothing that is known"),
        (Rules(choice=replace(CHOICE, hysteresis=0)), "hysteresis, seconds and return_seconds above 0"),
        (Rules(choice=replace(CHOICE, floor_percent=0)), "a floor of 1 to 100 percent"),
        (Rules(choice=replace(CHOICE, prices=(Price("eu", 1001),))), "prices of 0 to 1000 thousandths"),
    ],
)
def test_rules_that_contradict_themselves_are_refused_with_the_reason(rules: Rules, says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(table(), rules=rules)


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        (Shadow(STABLE, 10), "is the stable revision itself"),
        (Shadow("sha256:" + "c" * 64, 10), "has no backend"),
        (Shadow(CANARY, 0), "1 to 100 percent"),
        (Shadow(CANARY, 101), "1 to 100 percent"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused_with_the_reason(shadow: Shadow, says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(table(), shadow=shadow)


SHADOWED = replace(table(0), shadow=Shadow(CANARY, 10))
PINNED_RULES = Rules(pin_header="x-pin")


@pytest.mark.parametrize(
    ("old", "new", "raised"),
    [
        (table(0), SHADOWED, {CANARY}),
        (SHADOWED, SHADOWED, set()),
        (SHADOWED, replace(SHADOWED, shadow=Shadow(CANARY, 20)), {CANARY}),
        (SHADOWED, table(0), set()),
        (SHADOWED.on_safe_shares(), SHADOWED, {CANARY}),
        (table(0), replace(table(0), rules=PINNED_RULES), {CANARY}),
        (table(5), replace(table(0), rules=PINNED_RULES, backends=places(STABLE, *REGIONS)), set()),
    ],
    ids=["copies", "renewed", "more copies", "no more copies", "copies again", "may be chosen", "way back with new rules"],
)
def test_copies_and_pins_raise_exposure_and_a_way_back_never_does(old: RoutingTable, new: RoutingTable, raised: set[str]) -> None:
    assert set(raised_revisions(old, new)) == raised


def test_safe_shares_end_the_copies_and_envoy_is_told() -> None:
    held = Held.accepting(SHADOWED, None, 0.0)
    fallen = held.falling_back("because")
    assert fallen.in_force.shadow is None
    assert fallen.label != held.label


@given(
    marks=st.dictionaries(st.sampled_from(["eu", "us", "ch"]), st.sets(st.sampled_from(REGIONS), min_size=1), max_size=3),
    stable_in=st.sets(st.sampled_from(REGIONS), min_size=1),
    canary_in=st.sets(st.sampled_from(REGIONS), min_size=1),
    canary=st.integers(0, 100),
)
def test_no_cluster_of_a_residency_ever_holds_another_place(
    marks: dict[str, set[str]], stable_in: set[str], canary_in: set[str], canary: int
) -> None:
    residency = tuple(Residency(mark, tuple(sorted(regions))) for mark, regions in marks.items())
    backends = places(STABLE, *sorted(stable_in)) + places(CANARY, *sorted(canary_in), first_port=9100)
    one = replace(table(canary), backends=backends, rules=Rules(pin_header="x-pin", residency=residency), shadow=Shadow(CANARY, 10))
    found = clusters(one)
    for route in routes(one).values():
        mark = route["name"].rpartition("/in-")[2] if "/in-" in route["name"] else None
        for share in route.get("route", {}).get("weighted_clusters", {}).get("clusters", []):
            copies = [added["header"]["value"] for added in share["request_headers_to_add"] if added["header"]["key"] == "x-convoy-shadow"]
            reached = set().union(*(hosts(found[name]) for name in [share["name"], *copies]))
            assert mark is None or {region for _, region in reached} <= marks[mark]
            assert share["name"] in found


@given(canary=st.integers(0, 100), stable_in=st.sets(st.sampled_from(REGIONS), min_size=1), canary_in=st.sets(st.sampled_from(REGIONS)))
def test_within_a_residency_a_canary_never_has_more_than_its_share(canary: int, stable_in: set[str], canary_in: set[str]) -> None:
    one = replace(
        table(canary if canary_in else 0),
        backends=places(STABLE, *sorted(stable_in)) + places(CANARY, *sorted(canary_in), first_port=9100),
        rules=Rules(residency=(EU,)),
    )
    shares = shares_in(one, Lane(mark="eu"))
    whole = sum(weight for _, weight in shares)
    mine = sum(weight for place, weight in shares if place.revision == CANARY)
    assert bool(shares) == ("eu" in stable_in or (canary == 100 and "eu" in canary_in))
    assert not shares or mine * 100 == whole * (canary if "eu" in canary_in else 0)


def test_a_residency_that_no_place_is_left_for_refuses() -> None:
    one = replace(
        table(), backends=places(STABLE, "us") + places(CANARY, "us", first_port=9100), rules=Rules(residency=(EU,), unmarked="eu")
    )
    refusals = {name: route["direct_response"]["status"] for name, route in routes(one).items() if "direct_response" in route}
    assert refusals == {"employment/in-eu": 503, "employment/unknown-residency": 400, "employment": 503}


def test_where_envoy_refuses_a_models_requests_nobody_has_any_of_them_and_that_is_known() -> None:
    held = Held.accepting(table(), None, 0.0)
    refusing = model_state(held, Report("1", "1", True, weights={"employment": {}}))
    assert (refusing.percent_of(STABLE), refusing.percent_of(CANARY)) == (0, 0)
    assert model_state(held, Report("1", "1", True)).percent_of(CANARY) is None
    assert model_state(held, None).percent_of(CANARY) is None


def test_marked_requests_are_told_apart_before_anything_else_is_looked_at() -> None:
    one = replace(table(), rules=EVERYTHING)
    names = list(routes(one))
    marked = [name for name in names if "/in-" in name]
    assert names[: len(marked)] == marked
    assert names[len(marked)] == "employment/unknown-residency"
    assert names[-1] == "employment"


def test_within_a_residency_and_for_a_pin_an_edge_prefers_the_region_that_it_stands_in() -> None:
    rules = Rules(pin_header="x-pin", residency=(Residency("all", REGIONS), Residency("us", ("us",))))
    found = orjson.loads(routes_file([replace(table(), rules=rules)], "1", region="eu").content)["resources"][0]
    weights = {
        route["name"]: {share["name"].split("/")[2] for share in route["route"]["weighted_clusters"]["clusters"] if share["weight"]}
        for route in found["virtual_hosts"][0]["routes"]
        if "route" in route
    }
    assert weights["employment/in-all"] == weights["employment/pinned-canary"] == {"eu"}
    assert weights["employment/in-us"] == {"us"}


def test_an_unmarked_request_keeps_to_the_declared_residency() -> None:
    one = replace(table(), rules=Rules(residency=(EU,), unmarked="eu"))
    shares = routes(one)["employment"]["route"]["weighted_clusters"]["clusters"]
    assert {share["name"] for share in shares} == {"employment/aaaaaaaaaaaa/eu/in-eu", "employment/bbbbbbbbbbbb/eu/in-eu"}


def test_behind_a_pinned_revision_stands_itself_alone_and_behind_a_shadow_nothing() -> None:
    found = clusters(replace(table(), rules=PINNED_RULES, shadow=Shadow(CANARY, 10)))
    assert {revision for revision, _ in hosts(found["employment/bbbbbbbbbbbb/eu/pinned"])} == {CANARY}
    assert hosts(found["employment/bbbbbbbbbbbb/eu/shadow"]) == {(CANARY, "eu")}
    classes = {name: cluster["metadata"]["filter_metadata"]["convoy"].get("traffic") for name, cluster in found.items()}
    assert {name.split("/")[3] if name.count("/") == 3 else None: traffic for name, traffic in classes.items()} == {
        None: None,
        "pinned": "pinned",
        "shadow": "shadow",
    }


def test_requests_that_are_copied_get_a_key_of_the_edges_own_and_nobody_elses_key_gets_through() -> None:
    found = routes(replace(table(), rules=PINNED_RULES, shadow=Shadow(CANARY, 10)))
    keyed = {name for name, route in found.items() if "request_headers_to_add" in route}
    assert keyed == {"employment"}
    (key,) = found["employment"]["request_headers_to_add"]
    assert key["header"]["key"] == "x-convoy-pair"
    shares = [share for route in found.values() for share in route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])]
    assert shares
    assert all("x-convoy-pair" in share["request_headers_to_remove"] for share in shares)


def test_lanes_exist_for_what_is_asked_for_alone() -> None:
    assert lanes_of(table()) == (Lane(),)
    assert lanes_of(replace(table(), rules=Rules(pin_header="x-pin", residency=(EU,)))) == (
        Lane(),
        Lane(mark="eu"),
        Lane(PINNED),
        Lane(PINNED, "eu"),
    )


def test_declared_limits_bound_requests_connections_and_retries() -> None:
    (thresholds,) = clusters(replace(table(), rules=Rules(limits=Limits(10, 20))))["employment/aaaaaaaaaaaa/eu"]["circuit_breakers"][
        "thresholds"
    ]
    assert (thresholds["max_requests"], thresholds["max_connections"], thresholds["max_pending_requests"]) == (10, 10, 20)
    assert thresholds["retry_budget"]["min_retry_concurrency"] == 10
