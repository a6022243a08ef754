"""What the choice of region goes by: how long stable's own answers took, region by region, as the logs tell it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from test_traffic_attempts_lines import CANARY, STABLE, attempt_line, request_line

from traffic.attempts.fold import Fold
from traffic.attempts.terms import Terms
from traffic.attempts.timings import KEPT_SECONDS, Span, Timed, Timings

NOW = 1_800_000_000
HERE: dict[str, object] = {"cluster_revision": STABLE, "cluster_region": "eu", "host_revision": STABLE, "host_region": "eu"}
SPAN = Span(seconds=3, answers=10)


def timings(*attempts: bytes, requests: tuple[bytes, ...] = ()) -> Timings:
    """Have some lines counted three seconds after the present second began."""
    fold = Fold(lambda _: Terms(500), mask=str)
    fold.read_attempts(attempts, (NOW + 3) * 1000)
    fold.read_requests(requests, (NOW + 3) * 1000)
    fold.close((NOW + 2) * 1000, (NOW + 3) * 1000)
    return fold.timings


def ended(second: int, took_ms: int, key: str = "1", **fields: Any) -> bytes:
    return attempt_line(key, second * 1000 + 500 - took_ms, duration_ms=took_ms, **{**HERE, **fields})


def lately(found: Timings, revision: str = STABLE, now: float = NOW + 1) -> dict[str, Timed]:
    return {timed.region: timed for timed in found.lately("employment", revision, now, SPAN)}


def test_answers_are_timed_where_they_were_served_with_mean_error_and_what_was_under_way() -> None:
    found = timings(*(ended(NOW, took) for took in (10, 20, 30)), ended(NOW, 200, host_region="us"))
    assert lately(found)["us"].mean_ms == 200
    eu = lately(found)["eu"]
    assert (eu.answers, eu.mean_ms) == (3, 20)
    assert eu.error_ms == pytest.approx(10 / math.sqrt(3))
    assert eu.under_way == pytest.approx(0.060 / KEPT_SECONDS, rel=0.05)


def test_a_slow_canary_is_no_reason_to_leave_its_region() -> None:
    canary: dict[str, object] = {"cluster_revision": CANARY, "host_revision": CANARY}
    found = timings(ended(NOW, 20), *(ended(NOW, 2000, **canary) for _ in range(50)))
    assert (lately(found)["eu"].answers, lately(found)["eu"].mean_ms) == (1, 20)
    assert lately(found, CANARY)["eu"].answers == 50


def test_errors_and_refusals_are_not_quick_answers_and_what_hangs_is_slow() -> None:
    failed = [ended(NOW, 1, code=500), ended(NOW, 1, code=422), ended(NOW, 1, code=0, flags="UF"), ended(NOW, 1, code=503)]
    assert lately(timings(*failed))["eu"].answers == 0
    hung = [ended(NOW, 1500, code=0, flags="UT"), ended(NOW, 700, code=500)]
    assert (lately(timings(*hung))["eu"].answers, lately(timings(*hung))["eu"].mean_ms) == (2, 1100)


def test_what_a_caller_or_the_routes_timeout_cut_off_counts_as_its_request_tells() -> None:
    cut = request_line("1", NOW * 1000 - 1000, duration_ms=1500, code=504, flags="UT", **HERE)
    left = request_line("1", NOW * 1000 - 1000, duration_ms=1500, code=0, flags="DC", **HERE)
    assert lately(timings(ended(NOW, 1500, code=0), requests=(cut,)))["eu"].answers == 1
    assert lately(timings(ended(NOW, 1500, code=0), requests=(left,))) == {}


def test_shadows_and_pinned_requests_are_not_timed() -> None:
    assert lately(timings(ended(NOW, 20, traffic="shadow"), ended(NOW, 20, traffic="pinned"))) == {}


def test_a_busy_region_is_judged_by_its_last_seconds_and_a_quiet_one_by_as_many_as_it_needs() -> None:
    busy = [ended(NOW - back, 200 if back < 3 else 20) for back in range(30) for _ in range(10)]
    quiet = [ended(NOW - back, 200 if back < 3 else 20, host_region="us") for back in range(30)]
    found = lately(timings(*busy, *quiet))
    assert found["eu"].mean_ms == pytest.approx(200)
    assert found["us"].answers == SPAN.answers
    assert found["us"].mean_ms == pytest.approx((3 * 200 + 7 * 20) / 10)


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    found = timings(ended(NOW - KEPT_SECONDS - 1, 20))
    assert lately(found)["eu"].answers == 0
    assert lately(timings(ended(NOW - KEPT_SECONDS - 1, 20), ended(NOW, 30, host_region="us"))).keys() == {"us"}
