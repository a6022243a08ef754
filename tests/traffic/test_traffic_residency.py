"""Residency on a real Envoy: answered in its own regions or refused, whatever dies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from edge_harness import CANARY, STABLE, Load, RealEdge, wait_until

from traffic.edges import observe
from traffic.rules import Residency, Rules, Shadow
from traffic.table import RoutingTable

EU, US = ("europe-west4", "westeurope"), ("us-east-1",)
RESIDENCY = (Residency("eu", EU), Residency("us", US))


@contextmanager
def serving(folder: Path) -> Iterator[RealEdge]:
    """Start an edge whose canary has half of the requests, in two regions of the EU and one of the US."""
    real = RealEdge(folder)
    try:
        real.start()
        real.serve(STABLE, *EU, *US)
        real.serve(CANARY, *EU, *US)
        real.take(table(real, 1))
        yield real
    finally:
        real.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEdge]:
    """One edge for the tests that leave it as it is."""
    with serving(tmp_path_factory.mktemp("whole")) as real:
        yield real


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[RealEdge]:
    """An edge of which a test may take what it likes."""
    with serving(tmp_path / "edge") as real:
        yield real


def table(edge: RealEdge, version: int, unmarked: str | None = None, canary: int = 50) -> RoutingTable:
    return replace(edge.table(version, canary=canary, seconds=600), rules=Rules(residency=RESIDENCY, unmarked=unmarked))


def regions(edge: RealEdge, requests: int = 40, **headers: str) -> Counter[str]:
    """Ask and count where the answers come from."""
    answers = [edge.predict(**headers) for _ in range(requests)]
    assert {answer.status_code for answer in answers} == {200}
    return Counter(answer.headers["x-convoy-region"] for answer in answers)


def reached(edge: RealEdge, *places: str) -> int:
    """Count the requests that ever reached some regions."""
    return sum(edge.seen(revision, *places).total() for revision in (STABLE, CANARY))


def lose(edge: RealEdge, *places: str) -> None:
    for revision in (STABLE, CANARY):
        edge.lose(revision, *places)


def seen_lost(edge: RealEdge, *places: str) -> None:
    wait_until(lambda: not any(b.healthy for b in edge.model().backends if b.region in places), 10, "the loss to be seen")


@pytest.mark.parametrize("mark", ["eu", "EU"])
def test_a_marked_request_is_answered_in_its_own_regions_alone(whole: RealEdge, mark: str) -> None:
    before = reached(whole, *US)
    assert set(regions(whole, x_convoy_residency=mark)) == set(EU)
    assert {whole.predict(x_convoy_residency=mark).json()["labels"][-1] for _ in range(4)} == {"x-convoy-residency: eu"}
    assert reached(whole, *US) == before
    assert set(regions(whole)) == {*EU, *US}


def test_one_region_lost_the_other_answers_and_nothing_leaves(edge: RealEdge) -> None:
    lose(edge, EU[0])
    # Before and after the health checks see it
    assert set(regions(edge, x_convoy_residency="eu")) == {EU[1]}
    seen_lost(edge, EU[0])
    assert set(regions(edge, x_convoy_residency="eu")) == {EU[1]}
    assert reached(edge, *US) == 0


def test_all_regions_lost_the_request_is_refused_with_a_reason_and_nothing_leaves(edge: RealEdge) -> None:
    with Load(edge, rate=50, header="x-convoy-residency: eu") as load:
        load.go_on_for(30)
        lose(edge, *EU)
        seen_lost(edge, *EU)
        load.go_on_for(30)
    wait_until(lambda: edge.predict(x_convoy_residency="eu").json()["flags"] == "UH", 10, "the loss to be seen in the residency's clusters")
    refused = edge.predict(x_convoy_residency="Eu")
    assert refused.status_code == 503
    assert refused.json()["error"] == "no region of residency 'eu' can answer now; the request was answered nowhere"
    assert refused.json()["reason"] == "no_healthy_upstream"
    assert {answer.region for answer in load.answers if answer.status == "200"} == set(EU)
    assert {answer.status for answer in load.answers} == {"200", "503"}
    assert reached(edge, *US) == 0
    assert set(regions(edge, x_convoy_residency="us")) == set(US)


@pytest.mark.parametrize("mark", ["mars", "eu,us", "", "eu us"])
def test_an_unknown_mark_is_refused_and_answered_nowhere(whole: RealEdge, mark: str) -> None:
    before = reached(whole, *EU, *US)
    refused = whole.predict(x_convoy_residency=mark)
    assert refused.status_code == 400
    assert "names no residency that is known here (one of eu, us)" in refused.json()["error"]
    assert reached(whole, *EU, *US) == before


def test_a_mark_is_refused_where_a_model_has_no_residency(edge: RealEdge) -> None:
    edge.take(edge.table(2))
    refused = edge.predict(x_convoy_residency="eu")
    assert (refused.status_code, "this model has no residency" in refused.json()["error"]) == (400, True)
    assert reached(edge, *EU, *US) == 0


def test_an_unmarked_request_has_the_models_own_residency(edge: RealEdge) -> None:
    edge.client.apply(table(edge, 2, unmarked="eu"))
    assert set(regions(edge)) == set(EU)
    lose(edge, *EU)
    seen_lost(edge, *EU)
    # Each of its four clusters looks for itself, and 30 requests meet them all
    wait_until(lambda: {edge.predict().json().get("flags") for _ in range(30)} == {"UH"}, 20, "the loss to be seen in all of its clusters")
    refused = edge.predict()
    assert (refused.status_code, "residency 'eu'" in refused.json()["error"]) == (503, True)
    assert reached(edge, *US) == 0


def test_neither_a_pin_nor_a_copy_nor_a_drill_leaves_a_residency(edge: RealEdge) -> None:
    edge.take(replace(table(edge, 2, canary=0), rules=Rules(pin_header="x-pin", residency=RESIDENCY), shadow=Shadow(CANARY, 100)))
    assert set(regions(edge, x_convoy_residency="eu", x_pin="canary")) == set(EU)
    assert set(regions(edge, x_convoy_residency="eu")) == set(EU)
    wait_until(lambda: edge.seen(CANARY, *EU)["shadow"] == 40, 5, "the copies")
    lose(edge, *EU)
    seen_lost(edge, *EU)
    assert edge.predict(x_convoy_residency="eu", x_pin="canary").status_code == 503
    assert edge.predict(x_convoy_residency="eu", x_pin="stable").status_code == 503
    assert reached(edge, *US) == 0


def test_the_canarys_share_and_its_evidence_are_the_same_within_a_residency(whole: RealEdge) -> None:
    since = int(time.time()) + 1
    wait_until(lambda: time.time() >= since, 2, "a second without other requests")
    answers = [whole.predict(x_convoy_residency="eu") for _ in range(60)]
    answered = Counter(answer.headers["x-convoy-revision"] for answer in answers)
    assert 10 < answered[CANARY] < 50
    wait_until(lambda: observe([whole.client], "employment", since).total() == 60, 15, "the attempts")
    counts = observe([whole.client], "employment", since).counts
    found = sum((Counter({(count.revision, count.traffic): count.attempts}) for count in counts), Counter())
    assert found == {(revision, "live"): number for revision, number in answered.items()}
    assert {count.region for count in counts} == set(EU)


def test_behind_a_dead_canary_stands_stable_of_the_same_residency(edge: RealEdge) -> None:
    edge.lose(CANARY, *EU)
    answers = [edge.predict(x_convoy_residency="eu") for _ in range(30)]
    assert {(answer.status_code, answer.headers["x-convoy-revision"]) for answer in answers} == {(200, STABLE)}
    assert reached(edge, *US) == 0
