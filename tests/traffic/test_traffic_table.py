"""The routing table as a value, and the configuration that follows from it."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from fleet.errors import InputError
from traffic.clusters import Timeouts, clusters_of
from traffic.envoy import NO_TABLES, labels_in, routes_file, version_of
from traffic.table import Backend, RoutingTable, Share, raised_revisions, raises_exposure, table_from_json

STABLE = "sha256:" + "a" * 64
CANARY = "sha256:" + "b" * 64
REGIONS = ("us", "eu", "asia")


def places(revision: str, *regions: str, first_port: int = 9000) -> tuple[Backend, ...]:
    return tuple(Backend(revision, region, "127.0.0.1", first_port + index) for index, region in enumerate(regions))


def table(canary: int = 5, safe: str = STABLE, regions: tuple[str, ...] = REGIONS) -> RoutingTable:
    shares = (Share(STABLE, 100 - canary), Share(CANARY, canary)) if canary else (Share(STABLE, 100),)
    backends = places(STABLE, *regions) + places(CANARY, *regions, first_port=9100)
    return RoutingTable("employment", 3, 7, 1000.5, shares, (Share(safe, 100),), backends, 200)


def test_a_table_survives_its_json() -> None:
    assert table_from_json(table().to_json()) == table()
    scored = replace(table(), score_range=(-1.5, 2.0), score_tolerance=0.05)
    assert table_from_json(scored.to_json()) == scored


def test_a_table_of_an_older_convoy_scores_nothing() -> None:
    older = {name: value for name, value in orjson.loads(table().to_json()).items() if not name.startswith("score")}
    assert table_from_json(orjson.dumps(older)) == table()


def test_envoy_need_not_be_told_what_a_models_scores_may_be() -> None:
    assert table().same_routes(replace(table(), version=8, expires_at=2000.0, score_range=(0.0, 1.0), score_tolerance=0.1))
    assert not table().same_routes(table(25))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "../etc"}, "model must match"),
        ({"epoch": -1}, "must not be negative"),
        ({"expires_at": float("inf")}, "Unix seconds"),
        ({"latency_ms": 0}, "above 0"),
        ({"score_range": (1.0, 1.0)}, "the lower one first .found 1 and 1"),
        ({"score_range": (0.0, float("inf"))}, "score_range must be two numbers"),
        ({"score_range": (float("nan"), 1.0)}, "score_range must be two numbers"),
        ({"score_tolerance": 1.5}, "within 0 to 1"),
        ({"shares": ()}, "sum to 100 .found none"),
        ({"shares": (Share(STABLE, 60), Share(CANARY, 60))}, "sum to 100"),
        ({"shares": (Share(STABLE, 150), Share(CANARY, -50))}, "sum to 100"),
        ({"shares": (Share(STABLE, 50), Share(STABLE, 50))}, "twice"),
        ({"safe": (Share("sha256:" + "c" * 64, 100),)}, "has no backend"),
        ({"backends": places(STABLE, "us") * 2}, "twice in one region"),
        ({"backends": places(STABLE, "us") + places("sha256:xyz", "us")}, "64 hex digits"),
        ({"backends": places(STABLE, "US EAST")}, "region 'US EAST'"),
        ({"backends": (Backend(STABLE, "us", "localhost", 80),)}, "IP address"),
        ({"backends": (Backend(STABLE, "us", "127.0.0.1", 70000),)}, "65535"),
    ],
)
def test_an_inconsistent_table_is_refused_with_the_reason(change: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        replace(table(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "raised"),
    [
        (None, table(0), {STABLE}),
        (table(0), table(5), {CANARY}),
        (table(5), table(25), {CANARY}),
        (table(25), table(5), set()),
        (table(25), table(0), set()),
        (table(100), table(100, safe=CANARY), set()),
        (table(50), table(100, safe=CANARY), {CANARY}),
        (table(25).on_safe_shares(), table(25), {CANARY}),
        (table(100, safe=CANARY), table(0), {STABLE}),
        (table(5, regions=("us",)), table(5, regions=("us", "eu")), {STABLE, CANARY}),
        (table(5, regions=("us", "eu")), table(5, regions=("us",)), set()),
    ],
    ids=["first", "canary", "step up", "step down", "way back", "promotion", "promotion early", "again", "new stable", "region", "less"],
)
def test_what_raises_exposure(old: RoutingTable | None, new: RoutingTable, raised: set[str]) -> None:
    assert set(raised_revisions(old, new)) == raised
    assert raises_exposure(old, new) == bool(raised)


def test_behind_a_canary_stands_stable_in_its_region_and_then_elsewhere() -> None:
    ways = _ways_out(table())
    assert ways["employment/bbbbbbbbbbbb/eu"] == [{(CANARY, "eu")}, {(STABLE, "eu")}, {(STABLE, "us"), (STABLE, "asia")}]
    assert ways["employment/aaaaaaaaaaaa/eu"] == [{(STABLE, "eu")}, {(STABLE, "us"), (STABLE, "asia")}]


def test_no_cluster_leaves_the_places_of_the_table() -> None:
    one = replace(table(), backends=places(STABLE, "eu") + places(CANARY, "eu", "us", first_port=9100))
    assert _ways_out(one)["employment/bbbbbbbbbbbb/us"] == [{(CANARY, "us")}, {(STABLE, "eu")}]
    assert {place for ways in _ways_out(one).values() for group in ways for place in group} == {
        (STABLE, "eu"),
        (CANARY, "eu"),
        (CANARY, "us"),
    }


def test_timeouts_follow_from_the_slo_and_a_hang_is_tried_twice() -> None:
    timeouts = Timeouts.of(200)
    assert (timeouts.connect, timeouts.per_try, timeouts.whole) == (200, 600, 1200)
    routes = orjson.loads(routes_file([table()], "1").content)["resources"][0]["virtual_hosts"][0]["routes"]
    (route,) = (each["route"] for each in routes if each["name"] == "employment")
    assert (route["timeout"], route["retry_policy"]["per_try_timeout"]) == ("1.200s", "0.600s")
    assert route["retry_policy"]["retry_on"] == "connect-failure,refused-stream,reset,retriable-headers"
    assert [one["name"] for one in route["retry_policy"]["retriable_headers"]] == ["x-convoy-not-ready"]


def test_a_version_names_every_model_and_is_read_back() -> None:
    labels = {"employment": "3.7-safe", "churn": "1.2"}
    assert version_of(labels) == "churn:1.2;employment:3.7-safe"
    assert labels_in(version_of(labels)) == labels
    assert version_of({}) == NO_TABLES
    assert labels_in(NO_TABLES) == {}


def _ways_out(one: RoutingTable) -> dict[str, list[set[tuple[str, str]]]]:
    """Return, per cluster, the places of each priority as they stand in the endpoints' metadata."""
    found = {}
    for cluster in clusters_of(one):
        groups = orjson.loads(cluster.definition)["load_assignment"]["endpoints"]
        assert [group["priority"] for group in groups] == list(range(len(groups)))
        metadata = [[host["metadata"]["filter_metadata"]["convoy"] for host in group["lb_endpoints"]] for group in groups]
        found[cluster.name] = [{(each["revision"], each["region"]) for each in group} for group in metadata]
    return found
