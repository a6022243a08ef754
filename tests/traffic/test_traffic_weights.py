"""How an edge splits a revision's share over the clusters: evenly, or all of it to the region that it stands in."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

import orjson
from hypothesis import given
from hypothesis import strategies as st

from traffic.envoy import routes_file
from traffic.table import Backend, RoutingTable, Share
from traffic.weights import cluster_shares, cluster_weights

STABLE = "sha256:" + "a" * 64
CANARY = "sha256:" + "b" * 64
REGIONS = tuple(f"region-{number}" for number in range(7))


def table(canary: int, stable_in: tuple[str, ...], canary_in: tuple[str, ...]) -> RoutingTable:
    shares = (Share(STABLE, 100 - canary), Share(CANARY, canary))
    places = [(STABLE, region) for region in stable_in] + [(CANARY, region) for region in canary_in]
    backends = tuple(Backend(revision, region, "127.0.0.1", 9000 + number) for number, (revision, region) in enumerate(places))
    return RoutingTable("employment", 3, 7, 1000.5, shares, (Share(STABLE, 100),), backends, 200)


def split(found: RoutingTable, own: str | None) -> dict[str, dict[str, Fraction]]:
    """Return each revision's part of all requests by region, as a fraction."""
    shares = cluster_shares(found, own)
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
