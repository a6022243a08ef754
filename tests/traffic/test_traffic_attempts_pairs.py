"""What a shadow answered is held against what its caller was answered, once, and only where both are surely of one request."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_traffic_attempts_lines import STABLE, START, attempt_line

from traffic.attempts.fold import Fold
from traffic.attempts.lines import Series
from traffic.attempts.pairs import MOST, WAIT_MS, Chunk, Pairs
from traffic.attempts.tallies import PairTally
from traffic.attempts.terms import Terms

SHADOW, OTHER = "sha256:" + "c" * 64, "sha256:" + "d" * 64
AT_SHADOW, AT_OTHER = Series("employment", SHADOW, "r1", "shadow"), Series("employment", OTHER, "r1", "shadow")
SECOND = START // 1000
TERMS = Terms(1000, (0.0, 2.0), 0.05)
ONE, TWO = "1" * 16, "2" * 16
Found = dict[tuple[int, Series], tuple[int, int, int]]


def said(mark: str, score: float | None) -> str:
    return f"{'-' if score is None else f'{score:.6f}'};{mark}"


def live(key: str = "one", end: int = START + 3, revision: str = STABLE, **more: object) -> bytes:
    place: dict[str, object] = {"cluster_revision": revision, "host_revision": revision, "answer": said(ONE, 1.0), "join": f"7-{key}"}
    return attempt_line("the caller's", end - 3, **place | more)


def shadow(key: str = "one", end: int = START + 3, revision: str = SHADOW, **more: object) -> bytes:
    place: dict[str, object] = {"traffic": "shadow", "connection": 0, "answer": said(ONE, 1.0)}
    return live(key, end, revision, **place | more)


def as_pairs(tallies: list[PairTally]) -> Found:
    found: Found = {}
    for tally in tallies:
        for place, cell in tally.items():
            pairs, disagreed, distance = found.get(place, (0, 0, 0))
            found[place] = pairs + cell.pairs, disagreed + cell.disagreed, distance + cell.distance_sum
    return found


class Turns:
    """A fold and what the store keeps of it."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.terms, self.tallies, self.chunks = terms, list[PairTally](), list[Chunk]()
        self.fold = Fold(lambda model: terms, str)

    def turn(self, *lines: bytes, now: int = START + 100) -> None:
        self.fold.read_attempts(lines, now)
        self.fold.close(now - 1000, now)
        tally, chunk = self.fold.take_pairs(now)
        self.tallies.append(tally)
        kept = [one for one in self.chunks if one.number >= self.fold.pairs.oldest]
        self.chunks = [*kept, chunk] if chunk is not None and chunk.number >= self.fold.pairs.oldest else kept

    def restart(self) -> None:
        old = self.fold
        self.fold = Fold(lambda model: self.terms, str, old.complete_to, old.troubles, pairs=Pairs.from_chunks(self.chunks))

    def found(self) -> Found:
        return as_pairs(self.tallies)


def together(*lines: bytes, terms: Terms = TERMS) -> tuple[int, int, int] | None:
    """Pairs, how many disagreed, and their distances; the same whichever line is read first."""
    both = []
    for order in (lines, lines[::-1]):
        turns = Turns(terms)
        turns.turn(*order)
        both.append(turns.found())
    assert both[0] == both[1]
    return both[0].get((SECOND, AT_SHADOW))


@pytest.mark.parametrize(
    ("title", "answer", "terms", "expected"),
    [
        ("equal", said(ONE, 1.0), TERMS, (1, 0, 0)),
        ("equal, other scores (a range that both exceed)", said(ONE, 1.5), TERMS, (1, 0, 250_000)),
        ("unequal within the tolerance", said(TWO, 1.1), TERMS, (1, 0, 50_000)),
        ("unequal beyond the tolerance", said(TWO, 1.100002), TERMS, (1, 1, 50_001)),
        ("beyond the range is at its end", said(TWO, 9.0), TERMS, (1, 1, 500_000)),
        ("unequal without a score", said(TWO, None), TERMS, (1, 1, 1_000_000)),
        ("equal without a score", said(ONE, None), TERMS, (1, 0, 0)),
        ("unequal without a range", said(TWO, 1.0), Terms(1000), (1, 1, 1_000_000)),
        ("equal without a range", said(ONE, 1.0), Terms(1000), (1, 0, 0)),
        ("a shadow that says nothing", None, TERMS, None),
    ],
)
def test_two_answers_agree_when_they_are_equal_or_near(
    title: str, answer: str | None, terms: Terms, expected: tuple[int, int, int] | None
) -> None:
    assert together(live(), shadow(answer=answer), terms=terms) == expected, title


@pytest.mark.parametrize("code", [400, 404, 422, 301])
def test_a_shadow_that_refuses_what_stable_answers_disagrees(code: int) -> None:
    assert together(live(), shadow(code=code, answer=None)) == (1, 1, 1_000_000)


@pytest.mark.parametrize(
    "lines",
    [
        (live(), shadow(code=500, answer=None)),
        (live(), shadow(code=0, answer=None)),
        (live(), shadow(flags="UC")),
        (live(code=500, answer=None), shadow()),
        (live(code=422, answer=None), shadow(code=422, answer=None)),
        (live(answer=None), shadow()),
        (live(revision=SHADOW), shadow()),
        (live(join=None), shadow(join=None)),
        (live("one"), shadow("two")),
    ],
    ids=[
        "the shadow failed",
        "the shadow did not answer",
        "the shadow broke off",
        "stable failed",
        "both refuse",
        "a server that says nothing of its answers",
        "the shadow's own revision answered the caller",
        "routes that do not mirror",
        "other requests",
    ],
)
def test_what_is_no_pair_is_not_counted_as_one(lines: tuple[bytes, ...]) -> None:
    assert together(*lines) is None


def test_a_shadow_that_does_not_answer_is_bad_as_a_shadow() -> None:
    fold = Fold(lambda model: TERMS, str)
    fold.read_attempts([live(), shadow(code=0, answer=None)], START + 100)
    assert {series.traffic: (cell.attempts, cell.bad) for (_, series), cell in fold.close(START + 5000, START + 6000).items()} == {
        "live": (1, 0),
        "shadow": (1, 1),
    }


def test_a_key_under_which_two_answers_came_says_nothing_more() -> None:
    turns = Turns()
    turns.turn(live(), live(answer=said(TWO, 0.0)))
    turns.restart()
    turns.turn(shadow())
    assert (turns.found(), turns.fold.troubles.unpaired) == ({}, 0)


def test_the_same_request_id_again_and_again_joins_nothing_that_does_not_belong_together() -> None:
    assert together(live("one"), live("two", answer=said(TWO, 0.0)), shadow("two", answer=said(TWO, 0.0)), shadow("one")) == (2, 0, 0)


def test_two_shadows_of_one_request_are_both_held_against_the_one_answer() -> None:
    turns = Turns()
    turns.turn(shadow())
    turns.turn(live())
    turns.turn(shadow(revision=OTHER, answer=said(TWO, 0.0)), shadow("unknown"))
    assert turns.found() == {(SECOND, AT_SHADOW): (1, 0, 0), (SECOND, AT_OTHER): (1, 1, 500_000)}


def test_a_pair_counts_in_the_second_of_the_later_answer_or_in_the_first_open_one() -> None:
    turns = Turns()
    turns.turn(live("one", START + 900), shadow("one", START + 2100), live("two", START + 1500), now=START + 2200)
    turns.turn(shadow("two", START + 300), now=START + 9000)
    turns.turn(live("three", START + 300), shadow("three", START + 300), now=START + 9000)
    assert turns.found() == {(SECOND + 2, AT_SHADOW): (1, 0, 0), (SECOND + 1, AT_SHADOW): (1, 0, 0), (SECOND + 8, AT_SHADOW): (1, 0, 0)}


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 20), st.randoms(use_true_random=False), st.integers(1, 6), st.booleans())
def test_any_order_any_split_and_any_restart_joins_the_same(requests: int, chance: random.Random, turns: int, restart: bool) -> None:
    lines, expected = list[bytes](), Counter[str]()
    for number in range(requests):
        equal, revision = chance.random() < 0.5, chance.choice([STABLE, STABLE, SHADOW])
        lines += [live(str(number), START + chance.randrange(1000), revision)] * (chance.random() < 0.9)
        answered = len(lines) and f"7-{number}" in lines[-1].decode()
        lines.append(shadow(str(number), START + chance.randrange(1000), answer=said(ONE, 1.0) if equal else said(TWO, 0.0)))
        expected.update(
            {"pairs": int(bool(answered) and revision == STABLE), "disagreed": int(bool(answered) and revision == STABLE and not equal)}
        )
    chance.shuffle(lines)
    kept = Turns()
    for turn in range(turns):
        size = len(lines) if turn == turns - 1 else chance.randrange(len(lines) + 1)
        arrived, lines = lines[:size], lines[size:]
        kept.turn(*arrived, now=START + 1000 + turn)
        if restart:
            kept.restart()
    pairs, disagreed, distance = kept.found().get((SECOND, AT_SHADOW), (0, 0, 0))
    assert (pairs, disagreed, distance) == (expected["pairs"], expected["disagreed"], expected["disagreed"] * 500_000)


def test_what_finds_nothing_in_time_is_forgotten_and_told() -> None:
    turns = Turns()
    turns.turn(shadow("one"), live("two"), shadow("three"), live("three"), now=START)
    turns.turn(now=START + WAIT_MS)
    assert (len(turns.fold.pairs), turns.fold.troubles.unpaired) == (3, 0)
    turns.turn(now=START + WAIT_MS + 1)
    assert (len(turns.fold.pairs), turns.fold.troubles.unpaired, turns.chunks) == (0, 1, [])
    turns.turn(live("one"), shadow("two"), now=START + WAIT_MS + 2)
    assert turns.found() == {(SECOND, AT_SHADOW): (1, 0, 0)}


def test_a_shadow_that_met_its_answer_in_a_later_turn_is_not_told_as_alone_after_a_restart() -> None:
    turns = Turns()
    turns.turn(shadow())
    turns.turn(live())
    turns.restart()
    turns.turn(now=START + 60_000)
    assert (turns.fold.troubles.unpaired, len(turns.fold.pairs)) == (0, 0)


def test_a_clock_set_back_keeps_nothing_for_ever() -> None:
    turns = Turns()
    turns.turn(shadow(), now=START)
    turns.turn(now=START - 3_600_000)
    assert (len(turns.fold.pairs), turns.fold.troubles.unpaired) == (0, 1)


def test_what_waits_is_bounded_and_the_oldest_goes_first() -> None:
    turns = Turns()
    turns.fold.pairs = Pairs(most=10)
    turns.turn(*(live(f"old-{number}") for number in range(8)))
    turns.turn(*(live(f"new-{number}") for number in range(8)))
    assert len(turns.fold.pairs) == 8
    turns.turn(shadow("old-1"), shadow("new-1"))
    assert turns.found() == {(SECOND, AT_SHADOW): (1, 0, 0)}
    assert MOST == 20_000


def test_each_answer_that_waits_is_written_once() -> None:
    turns = Turns()
    turns.turn(live("one"))
    turns.turn(live("two"))
    turns.turn()
    assert [chunk.number for chunk in turns.chunks] == [0, 1]
    assert [b"7-one" in chunk.rows for chunk in turns.chunks] == [True, False]
    turns.restart()
    turns.turn(live("three"))
    assert [chunk.number for chunk in turns.chunks] == [0, 1, 2]


@pytest.mark.parametrize("reverse", [False, True])
def test_scores_are_summed_in_millionths_of_the_range_in_any_order(reverse: bool) -> None:
    scores = [0.1, 0.2, 0.3, -5.0, 99.0, None]
    lines = [live(str(number), answer=said(ONE, score)) for number, score in enumerate(scores)]
    lines += [live("refused", code=422, answer=None), live("failed", code=500, answer=said(ONE, 1.0)), live("silent", answer=None)]
    fold = Fold(lambda model: TERMS, str)
    fold.read_attempts(lines[::-1] if reverse else lines, START + 100)
    (cell,) = fold.close(START + 5000, START + 6000).values()
    assert (cell.attempts, cell.scored, cell.score_sum) == (9, 5, 50_000 + 100_000 + 150_000 + 0 + 1_000_000)


def test_without_a_range_nothing_is_scored() -> None:
    fold = Fold(lambda model: Terms(1000), str)
    fold.read_attempts([live()], START + 100)
    (cell,) = fold.close(START + 5000, START + 6000).values()
    assert (cell.attempts, cell.scored, cell.score_sum) == (1, 0, 0)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e6, 1e6), st.floats(0.001, 1e6))
def test_a_score_lies_within_its_range_in_whole_millionths(score: float, low: float, width: float) -> None:
    placed = Terms(1000, (low, low + width)).placed(score)
    assert isinstance(placed, int)
    assert 0 <= placed <= 1_000_000
