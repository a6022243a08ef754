"""Whether the share that was measured is the one that was asked for: of requests dealt out by chance, or of callers."""

from __future__ import annotations

import pytest

from fleet.evidence import AttemptCount, Attempts
from monitoring.share import measured_share


def attempts(canary: int, stable: int) -> Attempts:
    counts = tuple(AttemptCount(10, "edge", "m", name, "us", number, 0) for name, number in (("c", canary), ("s", stable)) if number)
    return Attempts(counts, 20)


@pytest.mark.parametrize(
    ("canary", "stable", "by_request", "by_caller"),
    [(20, 80, True, True), (50, 50, False, True), (0, 100, False, False), (100, 0, False, False), (0, 0, False, False)],
    ids=["as asked for", "few callers", "no canary", "no stable", "nobody"],
)
def test_callers_that_are_dealt_out_may_be_off_the_share_as_long_as_both_revisions_have_some(
    canary: int, stable: int, by_request: bool, by_caller: bool
) -> None:
    assert measured_share(attempts(canary, stable), "c", 10, 20).real is by_request
    assert measured_share(attempts(canary, stable), "c", 10, 20, by_caller=True).real is by_caller


@pytest.mark.parametrize(
    ("canary", "stable", "unlike"),
    [(20, 80, False), (0, 20, False), (0, 400, True), (50, 50, True), (0, 0, False)],
    ids=["as asked for", "too few to say", "none of many", "too many", "nobody"],
)
def test_a_share_is_unlike_only_where_chance_does_not_explain_it(canary: int, stable: int, unlike: bool) -> None:
    assert measured_share(attempts(canary, stable), "c", 10, 20).unlike is unlike
    assert not measured_share(attempts(canary, stable), "c", 10, 20, by_caller=True).unlike
