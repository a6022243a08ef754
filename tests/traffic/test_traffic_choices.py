"""What callers may choose and what they never see: pins, stickiness, shadows and limits on a real Envoy."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from edge_harness import CANARY, STABLE, Load, RealEdge, one_edge, wait_until

from fleet.canonical import short
from traffic.edges import observe, shift
from traffic.rules import Limits, Rules, Shadow, Sticky
from traffic.table import RoutingTable

PIN = "x-convoy-revision"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEdge]:
    """One edge for all tests here, with a stable revision and a canary in two regions."""
    with one_edge(tmp_path_factory.mktemp("edge")) as real:
        yield real


class Hand:
    """Puts tables in force, each newer than the one before."""

    def __init__(self, edge: RealEdge) -> None:
        self.edge = edge
        self._epoch = int(time.monotonic() * 1000)
        self._version = 0

    def table(self, canary: int = 0, rules: Rules | None = None, shadow: int = 0, latency_ms: int = 500) -> RoutingTable:
        self._version += 1
        plain = self.edge.table(self._version, canary=canary, epoch=self._epoch, latency_ms=latency_ms)
        return replace(plain, rules=rules or Rules(), shadow=Shadow(CANARY, shadow) if shadow else None)

    def take(self, table: RoutingTable) -> None:
        assert shift([self.edge.client], table).complete


@pytest.fixture
def hand(edge: RealEdge) -> Hand:
    return Hand(edge)


def counted(edge: RealEdge, since: int, requests: int) -> Counter[tuple[str, str]]:
    """Wait until so many attempts were counted and return them by revision and class of traffic."""

    def found() -> Counter[tuple[str, str]]:
        counts = observe([edge.client], "employment", since).counts
        return sum((Counter({(count.revision, count.traffic): count.attempts}) for count in counts), Counter())

    wait_until(lambda: found().total() >= requests, 15, f"{requests} attempts")
    return found()


def fresh_second() -> int:
    """Wait for the next second, so that nothing earlier is counted in it."""
    since = int(time.time()) + 1
    wait_until(lambda: time.time() >= since, 2, "a second without other requests")
    return since


def named(answer: httpx.Response) -> str:
    return answer.headers.get("x-convoy-revision", "")


@pytest.mark.parametrize("name", ["canary", "CANARY", short(CANARY)])
def test_a_pinned_request_goes_to_its_revision_whatever_the_weights_are(hand: Hand, name: str) -> None:
    hand.take(hand.table(rules=Rules(pin_header=PIN)))
    answers = [hand.edge.predict(x_convoy_revision=name) for _ in range(20)]
    assert {named(answer) for answer in answers} == {CANARY}
    assert {answer.headers["x-convoy-region"] for answer in answers} == {"us", "eu"}
    assert {tuple(answer.json()["labels"]) for answer in answers} == {("x-convoy-traffic: pinned",)}
    assert {named(hand.edge.predict(x_convoy_revision="stable")) for _ in range(10)} == {STABLE}
    assert hand.edge.answering(10) == {STABLE: 10}


def test_pinned_requests_are_counted_as_a_class_of_their_own(hand: Hand) -> None:
    hand.take(hand.table(canary=50, rules=Rules(pin_header=PIN)))
    since = fresh_second()
    pinned = [hand.edge.predict(x_convoy_revision="canary") for _ in range(30)]
    dealt = hand.edge.answering(30)
    found = counted(hand.edge, since, 60)
    assert found == {(CANARY, "pinned"): len(pinned), (STABLE, "live"): dealt[STABLE], (CANARY, "live"): dealt[CANARY]}


def test_a_pin_to_nothing_is_refused_with_the_reason(hand: Hand) -> None:
    alone = replace(hand.table(rules=Rules(pin_header=PIN)), backends=tuple(b for b in hand.edge.backends() if b.revision == STABLE))
    hand.take(alone)
    wrong, none = hand.edge.predict(x_convoy_revision="cccccccccccc"), hand.edge.predict(x_convoy_revision="canary")
    assert (wrong.status_code, none.status_code) == (400, 503)
    assert wrong.json()["error"] == f"x-convoy-revision names no revision that is here (one of stable, {short(STABLE)})"
    assert none.json()["error"] == "no canary is under way; stable is"
    hand.take(hand.table())
    assert named(hand.edge.predict(x_convoy_revision="cccccccccccc")) == STABLE


def test_a_pinned_request_is_never_answered_by_another_revision(hand: Hand) -> None:
    hand.take(hand.table(rules=Rules(pin_header=PIN)))
    hand.edge.lose(CANARY)
    try:
        wait_until(lambda: not any(b.healthy for b in hand.edge.model().backends if b.revision == CANARY), 10, "the loss to be seen")
        answers = [hand.edge.predict(x_convoy_revision="canary") for _ in range(10)]
        assert {answer.status_code for answer in answers} == {503}
        assert {named(answer) for answer in answers} == {""}
    finally:
        bring_back(hand.edge, CANARY)


def bring_back(edge: RealEdge, revision: str) -> None:
    edge.lose(revision)
    edge.serve(revision)
    wait_until(lambda: all(backend.healthy for backend in edge.model().backends), 10, "the return to be seen")


STICKY = [Sticky("header", "x-user"), Sticky("cookie", "session")]


def sides(edge: RealEdge, sticky: Sticky, callers: int, times: int = 2) -> dict[int, str]:
    """Have callers ask several times each; return which revision answered each, all times."""
    found: dict[int, set[str]] = {}
    with httpx.Client(trust_env=False, timeout=10) as client:
        for caller in range(callers):
            value = f"caller {caller}" if sticky.kind == "header" else f"other=1; {sticky.name}=caller{caller}"
            given = {sticky.name if sticky.kind == "header" else "cookie": value}
            answers = [client.post(f"{edge.url}/v2/models/employment/infer", content=b"{}", headers=given) for _ in range(times)]
            assert [answer.status_code for answer in answers] == [200] * times, f"caller {caller}: {answers[0].text}"
            found[caller] = {named(answer) for answer in answers}
    assert [caller for caller, revisions in found.items() if len(revisions) != 1] == []
    assert edge.model().safe_because == "", "the table stayed in force all the time"
    return {caller: revisions.pop() for caller, revisions in found.items()}


@pytest.mark.parametrize("sticky", STICKY, ids=["header", "cookie"])
def test_a_caller_stays_with_its_revision_and_the_shares_hold_over_callers(hand: Hand, sticky: Sticky) -> None:
    rules = Rules(sticky=sticky)
    hand.take(hand.table(canary=20, rules=rules))
    before = sides(hand.edge, sticky, callers=300)
    share = Counter(before.values())[CANARY] / 300
    # Five standard deviations of 300 callers
    assert abs(share - 0.2) < 0.12
    hand.take(hand.table(canary=60, rules=rules))
    after = sides(hand.edge, sticky, callers=300, times=1)
    assert [caller for caller in before if before[caller] == CANARY and after[caller] == STABLE] == [], (
        "a step up takes nobody off the canary"
    )
    assert abs(Counter(after.values())[CANARY] / 300 - 0.6) < 0.15


def test_callers_who_do_not_say_who_they_are_are_dealt_out_by_chance(hand: Hand) -> None:
    hand.take(hand.table(canary=50, rules=Rules(sticky=STICKY[0])))
    assert 20 < hand.edge.answering(100)[CANARY] < 80


def test_a_shadow_gets_its_part_of_stables_requests_and_counts_apart(hand: Hand) -> None:
    before = hand.edge.seen(CANARY)
    hand.take(hand.table(canary=50, shadow=40))
    since = fresh_second()
    with Load(hand.edge, rate=200) as load:
        load.go_on_for(600)
    assert load.failed() == []
    answered = Counter(answer.revision for answer in load.answers)
    copied = (hand.edge.seen(CANARY) - before)["shadow"]
    found = counted(hand.edge, since, len(load.answers) + copied)
    assert abs(copied / answered[STABLE] - 0.4) < 0.15
    assert found == {(STABLE, "live"): answered[STABLE], (CANARY, "live"): answered[CANARY], (CANARY, "shadow"): copied}
    assert hand.edge.seen(CANARY) - before == {"shadow": copied, "canary": answered[CANARY]}


def test_a_copy_stays_in_its_requests_region(hand: Hand) -> None:
    only_eu = tuple(b for b in hand.edge.backends() if (b.revision, b.region) != (STABLE, "us"))
    before = {region: hand.edge.seen(CANARY, region)["shadow"] for region in ("us", "eu")}
    hand.take(replace(hand.table(shadow=100), backends=only_eu))
    hand.edge.answering(30)
    wait_until(lambda: hand.edge.seen(CANARY, "eu")["shadow"] == before["eu"] + 30, 5, "the copies")
    assert hand.edge.seen(CANARY, "us")["shadow"] == before["us"]


@pytest.mark.parametrize("trouble", ["dead", "hanging", "refusing"])
def test_a_shadow_that_fails_fails_no_caller_and_delays_none(hand: Hand, trouble: str) -> None:
    hand.take(hand.table(shadow=100))
    try:
        with Load(hand.edge, rate=100) as load:
            load.go_on_for(50)
            if trouble == "hanging":
                for region in ("us", "eu"):
                    hand.edge.upstreams[CANARY, region].signal(signal.SIGSTOP)
            else:
                hand.edge.lose(CANARY)
            if trouble == "refusing":
                hand.edge.serve(CANARY, status=500)
            load.go_on_for(300)
        assert load.failed() == []
        assert {answer.revision for answer in load.answers} == {STABLE}
        assert hand.edge.model().safe_because == ""
    finally:
        bring_back(hand.edge, CANARY)


def test_on_safe_shares_nothing_is_copied_any_more(hand: Hand) -> None:
    table = hand.table(shadow=100)
    hand.take(table)
    hand.edge.client.take_safe_shares("employment", table.epoch)
    before = hand.edge.seen(CANARY)["shadow"]
    hand.edge.answering(20)
    assert hand.edge.seen(CANARY)["shadow"] == before


def test_overload_is_refused_at_once_and_over_when_it_ends(tmp_path_factory: pytest.TempPathFactory) -> None:
    edge = RealEdge(tmp_path_factory.mktemp("overload"))
    try:
        edge.start()
        edge.serve(STABLE, "us", delay_ms=400)
        hand = Hand(edge)
        hand.take(hand.table(rules=Rules(limits=Limits(requests=4, pending=4))))
        with Load(edge, rate=100) as load:
            load.go_on_for(150)
            wait_until(lambda: (refused := edge.predict()).status_code == 503 and refused.json()["flags"] == "UO", 10, "a refusal")
        outcomes = Counter(answer.status for answer in load.answers)
        assert set(outcomes) == {"200", "503"}
        # Ten in a second is all that four at a time can answer; those that wait come to the limit within two answers' time
        assert outcomes["503"] > 3 * outcomes["200"] > 0
        assert edge.seen(STABLE, "us").total() <= outcomes["200"] + 10, "a refusal is not tried again"
        assert edge.answering(5) == {STABLE: 5}
    finally:
        edge.close()


@pytest.mark.long
def test_a_model_that_takes_400_ms_is_answered_under_a_promise_of_500(tmp_path_factory: pytest.TempPathFactory) -> None:
    edge = RealEdge(tmp_path_factory.mktemp("slow"))
    try:
        edge.start()
        edge.serve(STABLE, "us", delay_ms=400)
        hand = Hand(edge)
        hand.take(hand.table())
        since = fresh_second()
        assert edge.answering(10) == {STABLE: 10}
        wait_until(lambda: observe([edge.client], "employment", since).total() == 10, 10, "the attempts")
        found = observe([edge.client], "employment", since)
        assert (found.bad(), sum(count.slow for count in found.counts)) == (0, 0)
        assert edge.seen(STABLE, "us").total() == 10
    finally:
        edge.close()
