"""The arithmetic and the verdict of a drill, on callers' logs whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from monitoring.drills import Client, DrillOutcome, ModelResult, Objectives, Request, harm_of, judge_drill, served_again

T0 = 1_700_000_000.0
GOOD = ModelResult(
    model="employment",
    digest="sha256:" + "1" * 64,
    sent=1000,
    failed=0,
    slow=2,
    worst_ms=120.0,
    bad_attempts=17,
    rescued=17,
    served_again=0.0,
    said=0.2,
    back=3.1,
    routed=4.4,
    sent_on_return=200,
    failed_on_return=1,
    releases_behind=0,
)
PROMISED = Objectives(rto_seconds=60, rpo_releases=0, error_rate=0.01)


def log(seconds: float, fails: Callable[[float], bool], rate: float = 100.0, before: float = 5.0) -> list[Request]:
    """Return an open-loop log from `before` seconds ahead of the kill; `fails` says of an instant after it what came of it."""
    count = int((before + seconds) * rate)
    found = []
    for number in range(count):
        at = number / rate - before
        failed = fails(round(at, 6))
        found.append(Request(number + 1, T0 + at, T0 + at + (2.0 if failed else 0.01), 0 if failed else 200))
    return found


@pytest.mark.parametrize("rate", [50.0, 100.0, 400.0])
def test_an_outage_of_eight_seconds_is_measured_as_eight_seconds_and_its_failed_share_is_right(rate: float) -> None:
    client = Client(log(60, lambda at: 0 <= at < 8, rate))
    found = served_again(client, T0, 5.0)
    assert found == pytest.approx(8.0, abs=0.2)
    sent, failed = client.window(T0, T0 + 50)
    assert failed == 8 * rate
    assert failed / sent == pytest.approx(8 / 50)


def test_an_outage_that_begins_only_after_a_good_window_is_not_missed() -> None:
    assert served_again(Client(log(60, lambda at: 7 <= at < 9)), T0, 5.0) == pytest.approx(9.0, abs=0.2)


def test_no_failure_at_all_is_a_recovery_after_no_time() -> None:
    assert served_again(Client(log(20, lambda at: False)), T0, 5.0) == 0.0


def test_single_failures_within_a_thousandth_are_no_outage() -> None:
    requests = log(60, lambda at: at in (1.0, 11.0), rate=1000.0)
    assert served_again(Client(requests), T0, 5.0) == 0.0
    assert served_again(Client(log(60, lambda at: at in (1.0, 11.0))), T0, 5.0) == pytest.approx(11.01, abs=0.02)


@pytest.mark.parametrize("seconds", [3.0, 8.0, 12.9])
def test_nothing_is_known_before_a_whole_window_behind_the_outage_is_complete(seconds: float) -> None:
    assert served_again(Client(log(seconds, lambda at: 0 <= at < 8)), T0, 5.0) is None


def test_requests_that_have_not_ended_are_not_taken_for_good_ones() -> None:
    requests = log(20, lambda at: False)
    hanging = [request for request in requests if not T0 + 1 <= request.due < T0 + 2]
    client = Client(hanging)
    assert client.complete_to == pytest.approx(T0 + 1, abs=0.02)
    assert served_again(client, T0, 5.0) is None
    assert client.served_share(T0, T0 + 5) is None


def test_the_order_of_the_log_is_the_order_of_the_answers_and_does_not_matter() -> None:
    requests = sorted(log(30, lambda at: 0 <= at < 8), key=lambda request: request.ended)
    assert served_again(Client(requests), T0, 5.0) == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize(("share", "stops"), [(0.0, False), (0.04, False), (0.10, True), (1.0, True)])
def test_more_than_five_percent_of_three_seconds_stop_a_drill(share: float, stops: bool) -> None:
    every = round(1 / share) if share else 0
    client = Client(log(4, lambda at: bool(every) and at >= 0 and round(at * 100) % every == 0))
    assert bool(harm_of(client, T0)) is stops


def test_what_failed_before_the_kill_stops_nothing() -> None:
    assert harm_of(Client(log(2, lambda at: at < 0)), T0) == ""


def test_an_empty_log_proves_nothing() -> None:
    client = Client([])
    assert (served_again(client, T0, 5.0), harm_of(client, T0), client.served_share(T0, T0 + 5)) == (None, "", None)


def test_a_drill_that_kept_its_promises_passes_and_says_what_it_measured() -> None:
    verdict = judge_drill([(GOOD, PROMISED)])
    assert verdict.outcome is DrillOutcome.PASSED
    assert "0 of 1000 requests failed" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"served_again": 61.0}, "after 61.00 s, the RTO is 60 s"),
        ({"served_again": None}, "not seen to be served again"),
        ({"releases_behind": 1}, "1 releases behind, the RPO is 0"),
        ({"said": None}, "never said"),
        ({"back": None}, "did not get ready again"),
        ({"routed": None}, "not seen to answer through every edge"),
        ({"failed_on_return": 3}, "3 of 200 requests failed while the region came back"),
    ],
)
def test_each_broken_promise_fails_a_drill_by_name(wrong: dict[str, float | None], says: str) -> None:
    verdict = judge_drill([(GOOD, PROMISED), (replace(GOOD, model="other", **wrong), PROMISED)])
    assert verdict.outcome is DrillOutcome.FAILED
    assert [reason for reason in verdict.reasons if reason.startswith("other: ") and says in reason] == list(verdict.reasons)


def test_a_drill_that_was_stopped_is_aborted_whatever_else_it_saw() -> None:
    verdict = judge_drill([(GOOD, PROMISED)], ("40 of 300 requests were not answered",))
    assert verdict.outcome is DrillOutcome.ABORTED
    assert verdict.reasons == ("40 of 300 requests were not answered",)


def test_nothing_measured_is_never_a_pass() -> None:
    assert judge_drill([]).outcome is DrillOutcome.FAILED
