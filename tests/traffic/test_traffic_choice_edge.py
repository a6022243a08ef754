"""The choice of regions on a real Envoy under load: left when slow, kept by residents, not left for a canary, taken back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, Load, RealEdge, envoy_percent, wait_until

from traffic.rules import Choice, Residency, Rules
from traffic.table import RoutingTable

REGIONS = ("eu", "us", "asia")
FLOOR = 5.0
CHOICE = Choice(latency=2, load=1, price=0, hysteresis=0.1, seconds=2, return_seconds=3, floor_percent=5)
AT_HOME = {"eu": 90.0, "us": FLOOR, "asia": FLOOR}
LEFT = {"eu": FLOOR, "us": 47.5, "asia": 47.5}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[RealEdge]:
    """An edge that stands in eu, with stable and a canary of a fifth in three regions."""
    real = RealEdge(tmp_path / "edge", region="eu")
    try:
        real.start()
        real.serve(STABLE, *REGIONS)
        real.serve(CANARY, *REGIONS)
        real.take(table(real))
        yield real
    finally:
        real.close()


def table(edge: RealEdge) -> RoutingTable:
    return replace(edge.table(1, canary=20, seconds=300), rules=Rules(residency=(Residency("eu", ("eu",)),), choice=CHOICE))


def placed(edge: RealEdge) -> dict[str, float]:
    """Return each region's part of the requests in percent, as Envoy itself has it."""
    return {each.region: each.percent for each in edge.model().regions}


def answered(load: Load, requests: int) -> Counter[str]:
    """Count where the next requests are answered."""
    before = len(load.answers)
    load.go_on_for(requests)
    return Counter(answer.region for answer in load.answers[before:])


def slow(edge: RealEdge, milliseconds: float, *revisions: str) -> None:
    for revision in revisions:
        edge.slow(revision, "eu", milliseconds)


@pytest.mark.long
def test_a_region_slowed_by_200_ms_loses_its_movable_traffic_within_ten_seconds_and_residents_stay(edge: RealEdge) -> None:
    with Load(edge, rate=100) as load, Load(edge, rate=10, header="x-convoy-residency: eu") as residents:
        wait_until(lambda: placed(edge) == AT_HOME, 10, "the home region to have all but the floors")
        wait_until(lambda: min(answered(load, 100)[region] for region in REGIONS) >= 2, 20, "answers from everywhere")

        slow(edge, 200, CANARY)
        load.go_on_for(500)
        assert placed(edge) == AT_HOME

        began = time.monotonic()
        slow(edge, 200, STABLE, CANARY)
        wait_until(lambda: placed(edge) == LEFT, 10, "the slow region to be left")
        assert time.monotonic() - began < 10
        assert answered(load, 200)["eu"] <= 30
        seen = [placed(edge) for _ in range(30) if not load.go_on_for(10)]
        assert seen == [LEFT] * 30
        assert round(envoy_percent(edge), 9) == 20

        edge.agent.kill()
        edge.agent.start()
        edge.wait_ready()
        load.go_on_for(100)
        assert placed(edge)["eu"] == FLOOR

        slow(edge, 0, STABLE, CANARY)
        wait_until(lambda: placed(edge)["eu"] >= 45, 30, "the region to be taken back")
        back = answered(load, 100)["eu"]
        assert back >= 25
        residents.go_on_for(10)
    assert load.failed() == residents.failed() == []
    assert {answer.region for answer in residents.answers} == {"eu"}
