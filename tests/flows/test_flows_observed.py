"""What the judge saw, as the ledger has it: nothing changes afterwards, nothing is lost, nothing is counted twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.canonical import canonical_json
from fleet.errors import OperationFailed, Unreachable
from fleet.evidence import AttemptCount, Attempts, PairCount
from flows.observed import Look, Observed, Sides, look_at, look_from_json

SIDES = Sides("toy", "sha256:c", "sha256:s")
REGIONS = ("eu", "us")


class StubEdge:
    """An edge as far as a look needs one: the counts that it has, up to the second that it has completed."""

    def __init__(self, name: str, answer: Callable[[int, int], Attempts]) -> None:
        self.name, self.answer = name, answer

    def attempts(self, _model: str, since: int, until: int) -> Attempts:
        return self.answer(since, until)


def count(second: int, edge: str, revision: str = "sha256:c", region: str = "eu", **more: Any) -> AttemptCount:
    return AttemptCount(second, edge, "toy", revision, region, 10, 2, **more)


def up_to(edge: str, complete_to: int) -> StubEdge:
    """An edge that counted something in each second from 100 on."""

    def answer(since: int, until: int) -> Attempts:
        seconds = range(max(since, 100), min(until, complete_to))
        return Attempts(tuple(count(second, edge) for second in seconds), min(until, complete_to))

    return StubEdge(edge, answer)


def away(edge: str) -> StubEdge:
    def answer(_since: int, _until: int) -> Attempts:
        raise Unreachable(f"edge '{edge}'", "does not answer")

    return StubEdge(edge, answer)


def test_each_look_takes_in_only_what_was_completed_since_the_one_before() -> None:
    seen = Observed(SIDES, since=100)
    first, _ = look_at([up_to("a", 103)], seen, 200, 20)
    second, _ = look_at([up_to("a", 105)], seen, 200, 20)
    assert [each.second for each in first.counts] == [100, 101, 102]
    assert [each.second for each in second.counts] == [103, 104]
    assert [each.second for each in seen.counts] == [100, 101, 102, 103, 104]


def test_a_look_is_read_back_from_the_ledgers_json_as_it_was() -> None:
    counts = (count(100, "a", bad_bursts=1, slow=3, slow_bursts=2, scored=8, score_sum=4_000_000), count(100, "a", "sha256:s", "us"))
    look = Look(counts, (PairCount(100, "a", "toy", "sha256:c", "eu", 5, 1, 20),), {"a": 101})
    assert look_from_json(json.loads(canonical_json(look.as_json(SIDES))), SIDES) == look


@pytest.mark.parametrize(
    "broken", [None, {}, {"counts": [[1]], "pairs": [], "complete_to": {}}, {"counts": 3, "pairs": [], "complete_to": {}}]
)
def test_a_record_that_cannot_be_read_is_an_error_and_never_an_empty_look(broken: Any) -> None:
    with pytest.raises(OperationFailed, match="record of a canary"):
        look_from_json(broken, SIDES)


def test_an_edge_that_cannot_be_asked_hides_nothing_of_the_others_and_makes_the_whole_stale() -> None:
    seen = Observed(SIDES, since=100)
    _, silent = look_at([up_to("a", 110), away("b")], seen, 200, 20)
    evidence = seen.evidence(REGIONS)
    assert len(seen.counts) == 10
    assert silent == ("edge 'b': does not answer",)
    assert evidence.attempts.complete_to == 110
    assert evidence.fresh_to == 100, "what b did since is not known, so nothing is promoted"


def test_what_an_edge_tells_late_changes_no_second_that_was_judged_and_is_summed_with_no_other() -> None:
    seen = Observed(SIDES, since=100)
    look_at([up_to("a", 110), away("b")], seen, 200, 20)
    judged = list(seen.counts)
    late, _ = look_at([up_to("a", 112), up_to("b", 112)], seen, 200, 20)
    of_b = [each for each in late.counts if each.edge.startswith("b")]
    assert seen.counts[:10] == judged
    assert len(of_b) == 12
    assert all(each.second >= 110 for each in late.counts)
    assert len({(each.second, each.edge) for each in of_b}) == 12


def test_no_edge_at_all_is_an_error() -> None:
    with pytest.raises(Unreachable, match="every edge"):
        look_at([away("a"), away("b")], Observed(SIDES, since=100), 200, 20)


def test_other_revisions_and_shadow_traffic_are_not_recorded() -> None:
    seen = Observed(SIDES, since=100)
    seen.take_in({"a": Attempts((count(100, "a", "sha256:other"), count(100, "a", traffic="shadow"), count(100, "a")), 101)}, 20)
    assert len(seen.counts) == 1


def test_seconds_in_which_weights_changed_stand_apart() -> None:
    seen = Observed(SIDES, since=100)
    for complete_to, weight in ((103, 0), (105, 5), (108, 5), (111, 25), (114, 25)):
        look_at([up_to("a", complete_to)], seen, 200, weight)
    assert seen.cuts == (103, 105, 108, 111)
    assert seen.evidence(REGIONS).cuts == seen.cuts
