"""The fold is the same for any order and any split of the lines; only what is late moves, and is told."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_traffic_attempts_lines import CANARY, STABLE, START, attempt_line, request_line

from traffic.attempts.fold import Fold
from traffic.attempts.lines import Series
from traffic.attempts.pending import Pending
from traffic.attempts.tallies import Tally
from traffic.attempts.terms import Terms

DELAY_MS = 1000
SLOW_MS = 50
AT_CANARY, AT_STABLE = Series("employment", CANARY, "r1", "live"), Series("employment", STABLE, "r2", "live")
ELSEWHERE: dict[str, object] = {"host_revision": STABLE, "host_region": "r2"}
NOWHERE: dict[str, object] = {"host_revision": None, "host_region": None, "host": None}
Expected = list[tuple[int, Series, Counter[str]]]


@dataclass(frozen=True)
class Line:
    """A line of one of the two logs; `ready` is when Envoy wrote it, in Unix milliseconds."""

    text: bytes
    is_request: bool
    ready: int


@dataclass(frozen=True)
class Story:
    """What happened to one request: its lines, and what must be counted where."""

    lines: tuple[Line, ...]
    expected: Expected


def story(kind: str, key: str, start: int, took: int) -> Story:
    """Tell what Envoy writes in each case, with the counts that the architecture asks for."""
    end, second_try = start + took, start + took // 2
    good, bad, gone = Counter(attempts=1), Counter(attempts=1, bad=1), Counter(abandoned=1)
    slow = Counter(attempts=1, slow=1) if took > SLOW_MS else good
    quick = Counter(attempts=1, slow=1) if end - second_try > SLOW_MS else good

    def attempt(begun: int, ended: int, **fields: object) -> Line:
        return Line(attempt_line(key, begun, duration_ms=ended - begun, **fields), False, ended)

    def request(**fields: object) -> Line:
        return Line(request_line(key, start, duration_ms=took, **fields), True, end)

    late_bad = (second_try, AT_CANARY, bad)
    table: dict[str, tuple[list[Line], Expected]] = {
        "answered": ([attempt(start, end), request()], [(end, AT_CANARY, slow)]),
        "500": (
            [attempt(start, end, code=500), request(code=500)],
            [(end, AT_CANARY, bad + (Counter(slow=1) if took > SLOW_MS else Counter()))],
        ),
        "timed out": ([attempt(start, end, code=0), request(code=504, flags="UT")], [(end, AT_CANARY, bad)]),
        "left": ([attempt(start, end, code=0), request(code=0, flags="DC")], [(end, AT_CANARY, gone)]),
        "cut off": ([attempt(start, end), request(flags="UT")], [(end, AT_CANARY, slow), (end, AT_CANARY, Counter(bad=1))]),
        "retried": (
            [attempt(start, second_try, code=0, flags="UC"), attempt(second_try, end), request(tries=2)],
            [late_bad, (end, AT_CANARY, quick)],
        ),
        "failed over": (
            [attempt(start, second_try, code=0, flags="UF"), attempt(second_try, end, **ELSEWHERE), request(tries=2, **ELSEWHERE)],
            [late_bad, (end, AT_STABLE, quick)],
        ),
        "failed over, left": (
            [
                attempt(start, second_try, code=0, flags="UT"),
                attempt(second_try, end, code=0, **ELSEWHERE),
                request(tries=2, code=0, flags="DC", **ELSEWHERE),
            ],
            [late_bad, (end, AT_STABLE, gone)],
        ),
        "never touched": (
            [attempt(start, end, **ELSEWHERE), request(**ELSEWHERE)],
            [(end, AT_STABLE, slow), (end, AT_CANARY, bad)],
        ),
        "no host": ([request(code=503, flags="UH", **NOWHERE)], [(end, AT_CANARY, bad)]),
        "overflow": (
            [attempt(start, end, code=0, flags="UO", **NOWHERE), request(code=503, flags="UO", **NOWHERE)],
            [(end, AT_CANARY, bad)],
        ),
        "refused by the edge": ([request(code=413, flags="-", tries=0, **NOWHERE)], []),
        "left before any attempt": ([request(code=0, flags="DC", tries=0, **NOWHERE)], []),
        "no host for the second try": (
            [attempt(start, second_try, code=0, flags="UF"), request(code=503, flags="UH", tries=2, **NOWHERE)],
            [late_bad],
        ),
    }
    lines, expected = table[kind]
    return Story(tuple(lines), expected)


KINDS = (
    "answered,500,timed out,left,cut off,retried,failed over,failed over;left,never touched,no host,overflow,"
    "refused by the edge,left before any attempt,no host for the second try"
).replace(",", "|").replace(";", ", ").split("|")  # fmt: skip


@st.composite
def stories(draw: st.DrawFn) -> list[Story]:
    """Some requests within five seconds, each over a connection of its own or with an id used again and again."""
    kinds = draw(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5000), st.integers(2, 400), st.booleans()), max_size=25))
    told, reused = [], START
    for number, (kind, offset, took, again) in enumerate(kinds):
        # One id over one connection means one after the other
        start = reused if again else START + offset
        told.append(story(kind, "again" if again else f"request-{number}", start, took))
        reused = start + took + 10 if again else reused
    return told


def wanted(told: list[Story]) -> dict[tuple[int, Series], Counter[str]]:
    found: dict[tuple[int, Series], Counter[str]] = {}
    for each in told:
        for end, series, counts in each.expected:
            found.setdefault((end // 1000, series), Counter()).update(counts)
    return found


def as_counters(tallies: list[Tally]) -> dict[tuple[int, Series], Counter[str]]:
    found: dict[tuple[int, Series], Counter[str]] = {}
    for tally in tallies:
        for place, cell in tally.items():
            names = ("attempts", "bad", "slow", "abandoned")
            found.setdefault(place, Counter()).update({name: getattr(cell, name) for name in names if getattr(cell, name)})
    return {place: +counts for place, counts in found.items() if +counts}


def new_fold() -> Fold:
    return Fold(lambda model: Terms(SLOW_MS), str)


def restarted(fold: Fold) -> Fold:
    """Carry over what the store keeps, and nothing else."""
    return Fold(lambda model: Terms(SLOW_MS), str, fold.complete_to, fold.troubles, Pending.from_json(fold.pending.to_json()))


def read(fold: Fold, lines: list[Line], now_ms: int, requests_first: bool) -> None:
    for requests in (requests_first, not requests_first):
        texts = [line.text for line in lines if line.is_request is requests]
        (fold.read_requests if requests else fold.read_attempts)(texts, now_ms)


@settings(max_examples=300, deadline=None)
@given(stories(), st.randoms(use_true_random=False), st.integers(1, 12), st.booleans())
def test_any_order_and_any_split_within_the_delay_counts_the_same(
    told: list[Story], chance: random.Random, turns: int, restart: bool
) -> None:
    waiting = [(line.ready + chance.randrange(DELAY_MS - 20), line) for each in told for line in each.lines]
    fold, tallies = new_fold(), []
    for now in [*sorted(chance.randrange(START, START + 15_000) for _ in range(turns)), START + 60_000]:
        # A turn reads what was written before it, and closes only what ended a delay before the line still to come
        arrived = [line for ready, line in waiting if ready <= now]
        waiting = [(ready, line) for ready, line in waiting if ready > now]
        chance.shuffle(arrived)
        read(fold, arrived, now, chance.random() < 0.5)
        tallies.append(fold.close(now - DELAY_MS, now))
        fold = restarted(fold) if restart else fold
    assert as_counters(tallies) == wanted(told)
    assert (fold.troubles.late, fold.troubles.unjoined, fold.troubles.malformed, len(fold.pending)) == (0, 0, 0, 0)


@settings(max_examples=200, deadline=None)
@given(stories(), st.randoms(use_true_random=False), st.lists(st.integers(-3_600_000, 60_000), min_size=1, max_size=12))
def test_whatever_comes_late_or_the_clock_does_no_complete_second_changes_and_no_line_is_lost(
    told: list[Story], chance: random.Random, clock: list[int]
) -> None:
    lines = [line for each in told for line in each.lines]
    chance.shuffle(lines)
    fold, total, attempt_lines = new_fold(), Counter[str](), sum(not line.is_request for line in lines)
    for now in [*(START + offset for offset in clock), START + 7_200_000]:
        some = len(lines) if now > START + 3_600_000 else chance.randrange(len(lines) + 1)
        arrived, lines = lines[:some], lines[some:]
        open_before = fold.complete_to
        read(fold, arrived, now, chance.random() < 0.5)
        tally = fold.close(now - DELAY_MS, now)
        assert fold.complete_to >= open_before
        assert all(second >= open_before for second, _ in tally)
        for counts in as_counters([tally]).values():
            total.update(counts)
    # Each attempt's line counts once; beyond them only a request can, as an attempt that its revision never got
    assert attempt_lines <= total["attempts"] + total["abandoned"] <= attempt_lines + len(told)
    assert total["bad"] <= total["attempts"] + sum(line.is_request for each in told for line in each.lines)
    assert len(fold.pending) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("requests_first", [True, False])
def test_each_story_counts_as_told_whichever_log_is_read_first(kind: str, requests_first: bool) -> None:
    told = story(kind, "one", START + 100, 200)
    fold = new_fold()
    read(fold, list(told.lines), START + 5000, requests_first)
    assert as_counters([fold.close(START + 4000, START + 5000)]) == wanted([told])


def test_an_attempt_without_its_request_is_bad_in_the_end_and_told() -> None:
    fold = new_fold()
    fold.read_attempts([attempt_line(code=0)], START)
    assert fold.close(START - DELAY_MS, START) == {}
    assert as_counters([fold.close(START + 100, START + 1100)]) == {(START // 1000, AT_CANARY): Counter(attempts=1, bad=1)}
    assert fold.troubles.unjoined == 1


def test_what_comes_for_a_complete_second_is_counted_in_the_first_open_one() -> None:
    fold = new_fold()
    fold.close(START + 10_000, START + 11_000)
    fold.read_attempts([attempt_line(), attempt_line("two", code=500)], START + 11_000)
    open_second = START // 1000 + 10
    assert as_counters([fold.close(START + 10_200, START + 11_200)]) == {(open_second, AT_CANARY): Counter(attempts=2, bad=1)}
    assert fold.troubles.late == 2


def test_a_clock_set_back_closes_nothing_again_and_holds_nothing_for_an_hour() -> None:
    fold = new_fold()
    fold.read_attempts([attempt_line(code=0)], START)
    fold.close(START - DELAY_MS, START)
    complete, set_back = fold.complete_to, START - 3_600_000
    tally = fold.close(set_back - DELAY_MS, set_back)
    assert as_counters([tally]) == {(complete, AT_CANARY): Counter(attempts=1, bad=1)}
    assert fold.complete_to == complete


def test_a_torn_line_is_told_and_the_whole_one_behind_it_is_counted() -> None:
    fold = new_fold()
    torn, whole = attempt_line("torn")[:100], attempt_line("whole", code=500)
    fold.read_attempts([torn + whole, b"garbage", whole + torn, whole + whole, attempt_line("next")], START)
    tally = fold.close(START + 5000, START + 6000)
    assert as_counters([tally]) == {(START // 1000, AT_CANARY): Counter(attempts=5, bad=4)}
    assert fold.troubles.malformed == 3


def test_what_waits_is_bounded() -> None:
    fold = new_fold()
    fold.most_pending = 100
    fold.read_attempts([attempt_line(str(number), code=0) for number in range(500)], START)
    tally = fold.close(START - DELAY_MS, START)
    assert len(fold.pending) == 0
    assert as_counters([tally]) == {(START // 1000, AT_CANARY): Counter(attempts=500, bad=500)}
    assert fold.troubles.unjoined == 500


def test_shadow_traffic_is_a_series_of_its_own_and_never_joined() -> None:
    fold = new_fold()
    fold.read_attempts([attempt_line(code=0, flags="UF", traffic="shadow", cluster_revision=STABLE)], START)
    fold.read_requests([request_line(tries=2, **ELSEWHERE)], START)
    found = as_counters([fold.close(START + 5000, START + 6000)])
    assert found == {
        (START // 1000, AT_CANARY._replace(traffic="shadow")): Counter(attempts=1, bad=1),
        (START // 1000, AT_CANARY): Counter(attempts=1, bad=1),
    }
