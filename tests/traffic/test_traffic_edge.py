"""A real Envoy, a real agent, small upstreams: what a controller may do to an edge, and what callers see of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from edge_harness import CANARY, STABLE, TOKEN, Load, RealEdge, one_edge, wait_until

from fleet.errors import Denied, InputError, Refused, TooLate, UnknownName, Unreachable
from fleet.headers import DRILL_HEADER
from fleet.settings import inherited_environment
from traffic.drill_key import drill_key
from traffic.edge_client import Edge
from traffic.edges import observe, shift
from traffic.table import Backend, Share


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEdge]:
    """One edge for the tests that leave it whole, with a stable revision and a canary in two regions."""
    with one_edge(tmp_path_factory.mktemp("edge")) as real:
        yield real


@pytest.fixture
def epoch() -> int:
    """A new epoch for each test, as a new controller would have."""
    return int(time.monotonic() * 1000)


@pytest.fixture
def canary_edge(edge: RealEdge, epoch: int) -> RealEdge:
    """The edge with half of the requests going to the canary, at version 1 of the test's epoch."""
    edge.take(edge.table(1, canary=50, epoch=epoch))
    return edge


def test_weights_change_under_load_without_a_failed_request(canary_edge: RealEdge, epoch: int) -> None:
    with Load(canary_edge) as load:
        for version, canary in enumerate((20, 80, 0, 100, 5, 50, 0), start=3):
            shifted = shift([canary_edge.client], canary_edge.table(version, canary=canary, epoch=epoch))
            assert shifted.complete
            assert shifted.states[0].models[0].percent_of(CANARY) == canary
            load.go_on_for(50)
    assert load.failed() == []
    assert len(load.answers) == load.sent
    assert {answer.revision for answer in load.answers} == {STABLE, CANARY}


def test_first_request_after_an_apply_follows_the_new_weights(canary_edge: RealEdge, epoch: int) -> None:
    for version in range(2, 8):
        canary = 100 if version % 2 else 0
        canary_edge.take(canary_edge.table(version, canary=canary, epoch=epoch))
        assert canary_edge.answering(4) == {CANARY if canary else STABLE: 4}


def test_promotion_under_load_makes_the_canary_the_safe_revision(canary_edge: RealEdge, epoch: int) -> None:
    with Load(canary_edge) as load:
        everything = (Share(CANARY, 100),)
        assert shift([canary_edge.client], canary_edge.table(2, canary=100, epoch=epoch)).complete
        promoted = replace(canary_edge.table(3, epoch=epoch), shares=everything, safe=everything)
        assert shift([canary_edge.client], promoted).complete
        load.go_on_for(100)
    assert load.failed() == []


def test_promotion_in_one_step_forgets_the_old_revision_under_load(canary_edge: RealEdge, epoch: int) -> None:
    everything = (Share(CANARY, 100),)
    backends = tuple(backend for backend in canary_edge.backends() if backend.revision == CANARY)
    with Load(canary_edge) as load:
        load.go_on_for(50)
        promoted = replace(canary_edge.table(2, epoch=epoch), shares=everything, safe=everything, backends=backends)
        assert shift([canary_edge.client], promoted).complete
        load.go_on_for(100)
    assert load.failed() == []
    assert canary_edge.client.take_safe_shares("employment", epoch).models[0].percent_of(CANARY) == 100


def test_read_back_shows_the_version_that_envoy_itself_reports(canary_edge: RealEdge, epoch: int) -> None:
    canary_edge.take(canary_edge.table(2, canary=70, epoch=epoch))
    dump = httpx.get(f"http://127.0.0.1:{canary_edge.ports.admin}/config_dump?resource=dynamic_route_configs", trust_env=False).json()
    assert dump["configs"][0]["version_info"] == f"employment:{epoch}.2"
    model = canary_edge.model()
    assert model.envoy_version == f"{epoch}.2"
    assert model.confirmed
    assert {weight.revision: weight.percent for weight in model.weights} == {STABLE: 30, CANARY: 70}
    assert all(backend.healthy for backend in model.backends)


def test_older_epoch_and_lower_version_are_refused(canary_edge: RealEdge, epoch: int) -> None:
    for stale in (canary_edge.table(9, epoch=epoch - 1), canary_edge.table(0, epoch=epoch), canary_edge.table(1, epoch=epoch)):
        with pytest.raises(Refused, match="not newer"):
            canary_edge.client.apply(stale)
        with pytest.raises(Refused, match="not newer"):
            canary_edge.client.prepare(stale)
    with pytest.raises(Refused, match="has passed"):
        canary_edge.client.take_safe_shares("employment", epoch - 1)
    assert canary_edge.model().percent_of(CANARY) == 50


def test_the_same_table_again_changes_nothing(canary_edge: RealEdge) -> None:
    files = canary_edge.files()
    state = canary_edge.client.apply(canary_edge.model().table)
    assert state.models[0].percent_of(CANARY) == 50
    assert canary_edge.files() == files


def test_a_renewal_moves_the_expiry_and_tells_envoy_nothing(canary_edge: RealEdge, epoch: int) -> None:
    files, version = canary_edge.files(), canary_edge.model().envoy_version
    renewed = replace(canary_edge.model().table, version=2, expires_at=time.time() + 500)
    assert shift([canary_edge.client], renewed).complete
    assert canary_edge.model().table == renewed
    assert canary_edge.model().envoy_version == version
    assert canary_edge.files() == files


def test_past_expiry_the_safe_shares_come_back_with_every_controller_gone(canary_edge: RealEdge, epoch: int) -> None:
    with Load(canary_edge) as load:
        canary_edge.client.apply(canary_edge.table(2, canary=50, seconds=1, epoch=epoch))
        wait_until(lambda: canary_edge.model().percent_of(CANARY) == 0, 5, "the return of the safe shares")
    assert load.failed() == []
    model = canary_edge.model()
    assert model.safe_because == "the table has expired"
    assert model.confirmed
    assert canary_edge.answering(20) == {STABLE: 20}


def test_a_renewal_that_comes_after_its_table_expired_is_too_late_and_may_be_made_anew(canary_edge: RealEdge, epoch: int) -> None:
    canary_edge.client.apply(canary_edge.table(2, canary=50, seconds=0.5, epoch=epoch))
    wait_until(lambda: canary_edge.model().percent_of(CANARY) == 0, 5, "the return of the safe shares")
    with pytest.raises(TooLate, match="had expired"):
        canary_edge.client.apply(canary_edge.table(3, canary=50, epoch=epoch))
    assert shift([canary_edge.client], canary_edge.table(4, canary=50, epoch=epoch)).complete
    assert canary_edge.model().percent_of(CANARY) == 50


def test_a_canary_that_left_by_itself_does_not_come_back_by_a_renewal(canary_edge: RealEdge, epoch: int) -> None:
    canary_edge.client.take_safe_shares("employment", epoch)
    with pytest.raises(Refused, match="not prepared"):
        canary_edge.client.apply(canary_edge.table(2, canary=50, epoch=epoch))
    assert canary_edge.model().percent_of(CANARY) == 0


def test_a_raise_needs_to_be_prepared(canary_edge: RealEdge, epoch: int) -> None:
    with pytest.raises(Refused, match="not prepared"):
        canary_edge.client.apply(canary_edge.table(2, canary=60, epoch=epoch))
    assert canary_edge.client.apply(canary_edge.table(2, canary=40, epoch=epoch)).models[0].percent_of(CANARY) == 40


def test_an_expired_table_is_refused(canary_edge: RealEdge, epoch: int) -> None:
    with pytest.raises(TooLate, match="expired"):
        canary_edge.client.apply(canary_edge.table(2, seconds=-1, epoch=epoch))


def test_a_raise_to_an_unhealthy_backend_is_refused_and_nothing_changes(canary_edge: RealEdge, epoch: int) -> None:
    third = "sha256:" + "c" * 64
    nowhere = Backend(third, "us", "127.0.0.1", 9)
    before, files = canary_edge.model(), canary_edge.files()
    raising = replace(
        canary_edge.table(2, epoch=epoch),
        shares=(Share(STABLE, 90), Share(third, 10)),
        backends=(*canary_edge.backends(), nowhere),
    )
    with pytest.raises(Refused, match="cccccccccccc in us"):
        shift([canary_edge.client], raising)
    assert canary_edge.files() == files
    assert canary_edge.model() == before


@pytest.mark.parametrize(
    ("correct", "broken"),
    [
        (b'"weight":50', b'"weight":51'),
        (b'"host":"127.0.0.1"', b'"host":"somewhere"'),
        (b'"latency_ms"', b'"latency"'),
        (b'"version":2', b'"version":"2"'),
        (b"{", b""),
    ],
)
def test_a_broken_table_is_refused_whole(canary_edge: RealEdge, epoch: int, correct: bytes, broken: bytes) -> None:
    files = canary_edge.files()
    body = canary_edge.table(2, canary=50, epoch=epoch).to_json()
    assert correct in body
    for path in ("", "/prepare"):
        with pytest.raises(InputError):
            canary_edge.client._send("PUT", f"/tables/employment{path}", body.replace(correct, broken))
    assert canary_edge.files() == files


def test_a_table_that_envoy_would_refuse_is_refused_before_it_is_written(canary_edge: RealEdge, epoch: int) -> None:
    files = canary_edge.files()
    with pytest.raises(InputError, match="envoy --mode validate"):
        canary_edge.client.prepare(replace(canary_edge.table(2, canary=60, epoch=epoch), latency_ms=10**18))
    assert canary_edge.files() == files


def test_a_table_must_be_of_the_model_in_the_path(canary_edge: RealEdge, epoch: int) -> None:
    with pytest.raises(InputError, match="the path says"):
        canary_edge.client._send("PUT", "/tables/other", canary_edge.table(2, epoch=epoch).to_json())


def test_without_the_right_token_nothing_is_told_or_done(canary_edge: RealEdge, epoch: int) -> None:
    url, body = canary_edge.client.url, canary_edge.table(2, epoch=epoch).to_json()
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic " + "a" * 20}):
        for method, path in (("GET", "/state"), ("GET", "/attempts"), ("PUT", "/tables/employment"), ("PUT", "/tables/employment/safe")):
            answer = httpx.request(method, url + path, content=body, headers=headers, trust_env=False)
            assert answer.status_code == 401, (method, path)
    assert canary_edge.model().table.version == 1
    with pytest.raises(Denied):
        Edge("edge-1", url, "wrong").state()


def test_an_unknown_model_has_no_safe_shares_and_no_attempts_are_wanted_without_a_period(canary_edge: RealEdge) -> None:
    with pytest.raises(UnknownName, match="known: employment"):
        canary_edge.client.take_safe_shares("unemployment", 1)
    with pytest.raises(InputError, match="lacks the parameter"):
        canary_edge.client._send("GET", "/attempts")


def test_a_second_agent_on_the_same_folder_does_not_start(canary_edge: RealEdge) -> None:
    done = subprocess.run(
        canary_edge.agent.command,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=inherited_environment(),
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 5
    assert "another agent writes it" in done.stderr
    assert canary_edge.client.state().envoy_ready


def test_an_edge_that_cannot_be_asked_stops_a_raise_and_not_a_way_back(canary_edge: RealEdge, epoch: int) -> None:
    gone = Edge("edge-2", "http://127.0.0.1:9", "a-token-for-the-tests-only")
    with pytest.raises(Unreachable, match="edge-2"):
        shift([canary_edge.client, gone], canary_edge.table(2, canary=60, epoch=epoch))
    assert canary_edge.model().percent_of(CANARY) == 50
    shifted = shift([canary_edge.client, gone], canary_edge.table(2, epoch=epoch))
    assert canary_edge.model().percent_of(CANARY) == 0
    assert not shifted.complete
    assert [failure.edge for failure in shifted.failures] == ["edge-2"]


def test_a_request_keeps_its_id_and_gets_one_when_it_has_none(canary_edge: RealEdge) -> None:
    assert canary_edge.predict(x_request_id="7f3c0d9e-2b1a-7c4d-9e8f-001122334455").headers["x-request-id"] == (
        "7f3c0d9e-2b1a-7c4d-9e8f-001122334455"
    )
    assert len(canary_edge.predict().headers["x-request-id"]) == 36


def test_a_path_without_a_model_is_answered_404_as_json(canary_edge: RealEdge) -> None:
    answer = httpx.get(f"{canary_edge.url}/v2/models/unknown/infer", headers={"x-request-id": "abc"}, trust_env=False)
    assert answer.status_code == 404
    assert answer.json()["error"] == "no model is served at this path"
    assert answer.json()["request_id"] == "abc"


def test_a_request_that_is_too_large_is_answered_413(canary_edge: RealEdge) -> None:
    assert canary_edge.predict(body=b"x" * (8 * 1024 * 1024 + 1)).status_code == 413


def test_a_caller_cannot_set_envoys_timeouts(canary_edge: RealEdge) -> None:
    answers = [canary_edge.predict(body=b"x" * 500_000, x_envoy_upstream_rq_timeout_ms="1") for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * 30


@pytest.mark.parametrize("forged", [[], ["drill"], ["live", "drill"]])
def test_the_edge_alone_says_what_kind_of_traffic_a_request_is(canary_edge: RealEdge, forged: list[str]) -> None:
    headers = [("x-convoy-traffic", label) for label in forged] + [("x-convoy-drill", "a guess")] * len(forged)
    labels = {STABLE: "live", CANARY: "canary"}
    assert canary_edge.labels(headers) == {revision: {(f"x-convoy-traffic: {label}",)} for revision, label in labels.items()}


def test_a_drill_that_knows_the_key_is_labelled_so_with_the_same_weights(canary_edge: RealEdge) -> None:
    headers = [(DRILL_HEADER, drill_key(TOKEN)), ("x-convoy-traffic", "live")]
    assert canary_edge.labels(headers) == {revision: {("x-convoy-traffic: drill",)} for revision in (STABLE, CANARY)}
    assert drill_key(TOKEN) != drill_key(TOKEN + "!")


def test_attempts_of_both_revisions_come_back_through_the_agent(canary_edge: RealEdge) -> None:
    since = int(time.time()) + 1
    wait_until(lambda: time.time() >= since, 2, "a second without other requests")
    answered = canary_edge.answering(60)
    wait_until(lambda: observe([canary_edge.client], "employment", since).complete_to > int(time.time()) - 3, 10, "completeness")
    wait_until(lambda: observe([canary_edge.client], "employment", since).total() == 60, 10, "all attempts")
    attempts = observe([canary_edge.client], "employment", since)
    assert {revision: attempts.of(revision).total() for revision in (STABLE, CANARY)} == answered
    assert attempts.bad() == 0
    assert {(count.edge, count.region) for count in attempts.counts} == {("edge-1", "us"), ("edge-1", "eu")}
