"""How an edge splits a revision's share over the clusters: evenly, or all of it to the region that it stands in."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InputError
from traffic.envoy import labels_in, routes_file
from traffic.lanes import Lane
from traffic.memory import Held
from traffic.placement import WHOLE, Placement
from traffic.rules import Residency, Rules
from traffic.table import Backend, Regional, RoutingTable, Share, raised_revisions, table_from_json
from traffic.weights import cluster_shares, cluster_weights, shares_in
from traffic.writer import Wanted

STABLE = "sha256:" + "a" * 64
CANARY = "sha256:" + "b" * 64
REGIONS = tuple(f"region-{number}" for number in range(7))


def table(canary: int, stable_in: tuple[str, ...], canary_in: tuple[str, ...]) -> RoutingTable:
    shares = (Share(STABLE, 100 - canary), Share(CANARY, canary))
    places = [(STABLE, region) for region in stable_in] + [(CANARY, region) for region in canary_in]
    backends = tuple(Backend(revision, region, "127.0.0.1", 9000 + number) for number, (revision, region) in enumerate(places))
    return RoutingTable("employment", 3, 7, 1000.5, shares, (Share(STABLE, 100),), backends, 200)


def split(found: RoutingTable, own: str | None, placed: Placement | None = None) -> dict[str, dict[str, Fraction]]:
    """Return each revision's part of all requests by region, as a fraction."""
    shares = cluster_shares(found, own, placed)
    whole = sum(weight for _, _, weight in shares)
    parts: dict[str, dict[str, Fraction]] = defaultdict(dict)
    for revision, name, weight in shares:
        parts[revision][name.rpartition("/")[2]] = Fraction(weight, whole)
    return parts


regions = st.integers(1, 7).map(lambda count: REGIONS[:count])


@given(canary=st.integers(1, 99), stable_in=regions, canary_in=regions)
def test_an_edge_of_no_region_splits_each_share_evenly_over_the_revisions_regions(
    canary: int, stable_in: tuple[str, ...], canary_in: tuple[str, ...]
) -> None:
    parts = split(table(canary, stable_in, canary_in), None)
    assert parts[CANARY] == dict.fromkeys(canary_in, Fraction(canary, 100 * len(canary_in)))
    assert parts[STABLE] == dict.fromkeys(stable_in, Fraction(100 - canary, 100 * len(stable_in)))


@given(canary=st.integers(1, 99), stable_in=regions, canary_in=regions, own=st.sampled_from(REGIONS))
def test_an_edge_gives_its_own_region_the_whole_share_of_each_revision_that_is_there(
    canary: int, stable_in: tuple[str, ...], canary_in: tuple[str, ...], own: str
) -> None:
    parts = split(table(canary, stable_in, canary_in), own)
    for revision, percent, there in ((CANARY, canary, canary_in), (STABLE, 100 - canary, stable_in)):
        assert sum(parts[revision].values()) == Fraction(percent, 100)
        if own in there:
            assert {region for region, part in parts[revision].items() if part} == {own}
        else:
            assert parts[revision] == dict.fromkeys(there, Fraction(percent, 100 * len(there)))


def test_the_clusters_of_other_regions_stand_in_the_routes_with_nothing() -> None:
    found = table(25, ("eu", "us"), ("us",))
    assert cluster_weights(found, "eu") == [
        ("employment/aaaaaaaaaaaa/eu", 75),
        ("employment/aaaaaaaaaaaa/us", 0),
        ("employment/bbbbbbbbbbbb/us", 25),
    ]


def test_the_routes_of_a_drill_are_split_as_everybodys() -> None:
    found = table(25, ("eu", "us"), ("eu", "us"))
    resource = orjson.loads(routes_file([found], "1", drills="key", region="us").content)["resources"][0]
    routes = {route["name"]: route.get("route") for route in resource["virtual_hosts"][0]["routes"]}
    for route in (routes["employment/drill"], routes["employment"]):
        assert [(share["name"], share["weight"]) for share in route["weighted_clusters"]["clusters"]] == cluster_weights(found, "us")


def in_waves(now: int, done: int, regions: tuple[str, ...], wave: int) -> RoutingTable:
    """Return a table whose canary has `now` percent in the region of a wave, `done` in those before it and nothing after it."""
    before = tuple(Regional(region, both(done)) for region in regions[:wave])
    after = tuple(Regional(region, (Share(STABLE, 100),)) for region in regions[wave + 1 :])
    return replace(table(now, regions, regions), regional=(*before, *after))


def both(canary: int) -> tuple[Share, ...]:
    return (Share(STABLE, 100 - canary), Share(CANARY, canary))


@given(now=st.integers(1, 99), done=st.integers(1, 99), there=regions, data=st.data())
def test_a_region_whose_shares_differ_keeps_its_own_at_an_edge_of_none(
    now: int, done: int, there: tuple[str, ...], data: st.DataObject
) -> None:
    wave = data.draw(st.integers(0, len(there) - 1))
    parts = split(in_waves(now, done, there, wave), None)
    wanted = {region: done if at < wave else now if at == wave else 0 for at, region in enumerate(there)}
    for region, percent in wanted.items():
        assert parts[CANARY].get(region, 0) == Fraction(percent, 100 * len(there))
        assert parts[STABLE][region] == Fraction(100 - percent, 100 * len(there))


@given(now=st.integers(1, 99), done=st.integers(1, 99), there=regions, data=st.data())
def test_an_edge_deals_out_the_shares_of_the_region_that_it_stands_in(
    now: int, done: int, there: tuple[str, ...], data: st.DataObject
) -> None:
    wave, own = data.draw(st.integers(0, len(there) - 1)), data.draw(st.integers(0, len(there) - 1))
    parts = split(in_waves(now, done, there, wave), there[own])
    percent = done if own < wave else now if own == wave else 0
    assert parts[CANARY].get(there[own], 0) == Fraction(percent, 100)
    assert parts[STABLE][there[own]] == Fraction(100 - percent, 100)


def test_residents_get_the_shares_of_their_own_regions() -> None:
    three = REGIONS[:3]
    found = replace(in_waves(20, 50, three, 1), rules=Rules(residency=(Residency("eu", three[1:]),)))
    weights = {(place.revision, place.region): weight for place, weight in shares_in(found, Lane(mark="eu")) if weight}
    assert weights == {(STABLE, three[1]): 80, (CANARY, three[1]): 20, (STABLE, three[2]): 100}


def test_the_next_wave_raises_what_its_regions_meet_and_the_way_back_raises_nothing() -> None:
    three = REGIONS[:3]
    first, second, back = in_waves(50, 50, three, 0), in_waves(5, 50, three, 1), in_waves(5, 20, three, 1)
    assert raised_revisions(first, second) == (CANARY,)
    assert raised_revisions(second, second) == ()
    assert raised_revisions(second, back) == ()
    assert raised_revisions(second, second.on_safe_shares()) == ()
    assert second.on_safe_shares().weight_in(three[0], CANARY) == 0


@pytest.mark.parametrize(
    ("regional", "says"),
    [
        ((Regional("nowhere", both(20)),), "regional names 'nowhere', where no backend is"),
        ((Regional(REGIONS[0], both(20)), Regional(REGIONS[0], both(30))), "regional names a region twice"),
        ((Regional(REGIONS[0], (Share(STABLE, 90),)),), "shares of region-0 must be whole percents that sum to 100"),
    ],
)
def test_regional_shares_that_cannot_be_are_refused(regional: tuple[Regional, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(table(20, REGIONS[:2], REGIONS[:2]), regional=regional)


def test_regional_shares_reach_the_edge_in_the_tables_own_form() -> None:
    found = in_waves(5, 50, REGIONS[:3], 1)
    assert table_from_json(found.to_json()) == found
    assert b"regional" not in table(5, REGIONS[:2], REGIONS[:2]).to_json()
    assert not found.same_routes(replace(found, regional=()))


caps = st.dictionaries(st.sampled_from(REGIONS), st.integers(0, WHOLE))


@given(canary=st.integers(1, 99), stable_in=regions, canary_in=regions, own=st.sampled_from([None, *REGIONS]), caps=caps)
def test_a_placement_changes_nothing_about_the_shares_of_the_revisions(
    canary: int, stable_in: tuple[str, ...], canary_in: tuple[str, ...], own: str | None, caps: dict[str, int]
) -> None:
    placed = Placement(200, caps)
    found = table(canary, stable_in, canary_in)
    parts = split(found, own, placed)
    for revision, percent, there in ((CANARY, canary, canary_in), (STABLE, 100 - canary, stable_in)):
        expected = placed.parts(there, own)
        assert parts[revision] == {region: Fraction(percent * expected[region], 100 * WHOLE) for region in there}
    assert sum(weight for _, weight in cluster_weights(found, own, placed)) < 2**32


@given(own=st.sampled_from([None, *REGIONS]), caps=caps, inside=st.sets(st.sampled_from(REGIONS), min_size=1))
def test_residents_are_placed_among_their_own_regions_alone(own: str | None, caps: dict[str, int], inside: set[str]) -> None:
    allowed = tuple(sorted(inside))
    found = replace(table(30, REGIONS, REGIONS), rules=Rules(residency=(Residency("home", allowed),)))
    placed = Placement(200, caps)
    weights = shares_in(found, Lane(mark="home"), own, placed)
    assert {place.region for place, _ in weights} == inside
    expected = placed.parts(allowed, own)
    assert {place.region: weight for place, weight in weights if place.revision == STABLE} == {
        region: 70 * part for region, part in expected.items()
    }
    if len(allowed) == 1:
        assert [weight for _, weight in weights] == [70 * WHOLE, 30 * WHOLE]


@given(now=st.integers(1, 99), done=st.integers(1, 99), there=regions, caps=caps, data=st.data())
def test_what_is_placed_in_a_region_is_dealt_out_as_its_wave_says_wherever_the_edge_stands(
    now: int, done: int, there: tuple[str, ...], caps: dict[str, int], data: st.DataObject
) -> None:
    wave, own = data.draw(st.integers(0, len(there) - 1)), data.draw(st.sampled_from([None, *there]))
    parts = split(in_waves(now, done, there, wave), own, Placement(200, caps))
    for at, (region, part) in enumerate(Placement(200, caps).parts(there, own).items()):
        percent = done if at < wave else now if at == wave else 0
        assert parts[CANARY].get(region, 0) == Fraction(percent * part, 100 * WHOLE)
        assert parts[STABLE][region] == Fraction((100 - percent) * part, 100 * WHOLE)


def test_a_placement_shows_in_the_version_of_the_routes_and_not_in_the_models() -> None:
    held = Held(table(25, ("eu", "us"), ("us",)), "", "3.7")
    placed = [Wanted((held,), placements={"employment": Placement(200, {"eu": cap})}).version for cap in (200, 1200)]
    assert len({Wanted((held,)).version, *placed}) == 3
    assert {labels_in(version)["employment"] for version in placed} == {"3.7"}
