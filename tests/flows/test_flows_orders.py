"""What people ordered of a release, and what it means for the canary: folds of events, by the clock that is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fleet.commands import FITS, MEANING, Command
from fleet.declared import Canary, Step
from fleet.phases import ReleasePhase
from flows.orders import COMMANDED, OBEYED, Go, Order, Orders, fold, order_of, payload_of, turn
from registry.events import GENESIS, Event

BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)
SINCE = BEGAN.timestamp()
STEPS = (Step(weight=5, seconds=10),)
CANARY = Canary(steps=STEPS, max_seconds=100, pause_seconds=60)
C = Command


def order(command: Command, at: float = 0, seconds: int = 0, id_: str = "") -> Order:
    name = id_ or f"{command}-{at:g}"
    return Order(name, command, "night-shift", "it looks odd", "a test", BEGAN + timedelta(seconds=at), seconds)


def event(type_: str, intent: str, payload: object = None, at: datetime = BEGAN) -> Event:
    told = {} if payload is None else payload
    return Event(1, 1, "release/toy-1", 1, type_, at, "operator night-shift", 0, intent, None, told, GENESIS, GENESIS)  # type: ignore[arg-type]


def given_(*orders: Order) -> list[Event]:
    return [event(COMMANDED, each.id, payload_of(each), each.at) for each in orders]


def folded(*orders: Order) -> Orders:
    return fold(given_(*orders))


def test_every_command_says_what_it_means_and_where_it_fits() -> None:
    assert set(MEANING) == set(FITS) == set(Command)
    assert not any(command.fits(phase) for command in Command for phase in ReleasePhase if phase.terminal)
    assert not any(command.fits(ReleasePhase.PROMOTING) or command.fits(ReleasePhase.ROLLING_BACK) for command in Command)


def test_an_order_is_read_back_from_its_event_as_it_was_given() -> None:
    given_order = Order("id-1", C.EXTEND, "night-shift", "it is night", "a test", BEGAN, 600, "sha256:1")
    (kept,) = given_(given_order)
    assert order_of(kept) == given_order


@pytest.mark.parametrize(
    ("commands", "paused", "promoted", "extended"),
    [
        ((), None, None, 0),
        ((C.PAUSE,), "pause-0", None, 0),
        ((C.PAUSE, C.RESUME), None, None, 0),
        ((C.PAUSE, C.RESUME, C.PAUSE), "pause-2", None, 0),
        ((C.PAUSE, C.PROMOTE), None, "promote-1", 0),
        ((C.PROMOTE, C.PAUSE), "pause-1", None, 0),
        ((C.PROMOTE, C.PAUSE, C.RESUME), None, None, 0),
        ((C.EXTEND, C.PAUSE, C.EXTEND), "pause-1", None, 60),
    ],
)
def test_a_later_command_takes_back_what_it_contradicts(
    commands: tuple[Command, ...], paused: str | None, promoted: str | None, extended: int
) -> None:
    found = folded(*(order(command, at, 30 if command is C.EXTEND else 0) for at, command in enumerate(commands)))
    assert (found.paused and found.paused.id, found.promoted and found.promoted.id, found.extended) == (paused, promoted, extended)


def test_an_order_is_pending_until_the_release_says_that_it_obeyed() -> None:
    pause, extend = order(C.PAUSE), order(C.EXTEND, 1, 30)
    assert folded(pause, extend).pending == (pause, extend)
    found = fold([*given_(pause, extend), event(OBEYED, pause.id)])
    assert (found.pending, found.paused) == ((extend,), pause)


def test_a_promotion_that_a_pause_took_back_is_not_waited_for() -> None:
    assert folded(order(C.PROMOTE), order(C.PAUSE, 1)).pending == (order(C.PAUSE, 1),)


def test_events_that_are_no_orders_do_not_matter() -> None:
    pause = order(C.PAUSE)
    assert fold([event("canary.judged", ""), *given_(pause), event("phase.entered", "")]) == folded(pause)


@pytest.mark.parametrize(
    ("now", "go"),
    [(0, Go.ON), (100, Go.ON), (100.1, Go.OVER)],
)
def test_a_canary_walks_until_its_time_is_up(now: float, go: Go) -> None:
    assert turn(CANARY, Orders(), SINCE, SINCE + now).go is go


def test_time_that_was_given_to_it_counts_from_its_end() -> None:
    longer = folded(order(C.EXTEND, 5, 50))
    assert turn(CANARY, longer, SINCE, SINCE + 150).go is Go.ON
    late = turn(CANARY, longer, SINCE, SINCE + 151)
    assert late.over
    assert "within 150 s" in late.reasons[0]


def test_the_time_of_a_pause_does_not_count() -> None:
    waited = folded(order(C.PAUSE, 10), order(C.RESUME, 50))
    assert turn(CANARY, waited, SINCE, SINCE + 140).go is Go.ON
    assert turn(CANARY, waited, SINCE, SINCE + 141).over


def test_a_pause_holds_and_ends_in_a_way_back_when_nobody_resumes_it() -> None:
    paused = folded(order(C.PAUSE, 90))
    held = turn(CANARY, paused, SINCE, SINCE + 149)
    assert held.holds
    assert held.reasons == ("Paused by operator night-shift: it looks odd; without a word it is rolled back in 1 s.",)
    ended = turn(CANARY, paused, SINCE, SINCE + 151)
    assert ended.over
    assert ended.reasons == ("Paused by operator night-shift: it looks odd; nobody resumed it within 60 s.",)


def test_a_canary_without_a_verdict_asks_and_is_rolled_back_without_an_answer() -> None:
    asking = CANARY.model_copy(update={"without_verdict": "ask", "ask_seconds": 30})
    asked = turn(asking, Orders(), SINCE, SINCE + 110)
    assert asked.holds
    assert "waits another 20 s for an operator" in asked.reasons[0]
    silent = turn(asking, Orders(), SINCE, SINCE + 131)
    assert silent.over
    assert "no operator answered" in silent.reasons[0]
    assert turn(asking, folded(order(C.EXTEND, 110, 60)), SINCE, SINCE + 111).go is Go.ON


def test_a_canary_without_a_verdict_is_extended_by_itself_as_often_as_declared() -> None:
    extending = CANARY.model_copy(update={"without_verdict": "extend", "extend_seconds": 20, "extensions": 2})
    first, second = (turn(extending, Orders(), SINCE, SINCE + now) for now in (101, 121))
    assert (first.go, second.go) == (Go.ON, Go.ON)
    assert ("1 of 2 times" in first.reasons[0], "2 of 2 times" in second.reasons[0]) == (True, True)
    assert turn(extending, Orders(), SINCE, SINCE + 141).over


MOMENTS = some.lists(some.tuples(some.sampled_from([C.PAUSE, C.RESUME, C.EXTEND, C.PROMOTE]), some.integers(0, 400)), max_size=12)


@given(MOMENTS, some.integers(0, 4000), some.sampled_from(["roll back", "ask", "extend"]))
def test_a_canary_that_nobody_speaks_to_any_more_ends(moments: list[tuple[Command, int]], later: int, ending: str) -> None:
    canary = CANARY.model_copy(update={"without_verdict": ending, "ask_seconds": 30, "extend_seconds": 20})
    spoken = sorted(moments, key=lambda moment: moment[1])
    orders = folded(*(order(command, at, 30 if command is C.EXTEND else 0) for command, at in spoken))
    last = spoken[-1][1] if spoken else 0
    most = 100 + orders.extended + orders.paused_seconds(SINCE, SINCE + last) + 60 + 30 + last
    assert turn(canary, orders, SINCE, SINCE + most + later + 1).over


@given(MOMENTS, some.integers(0, 1000))
def test_the_paused_time_is_never_less_than_nothing_nor_more_than_all(moments: list[tuple[Command, int]], now: int) -> None:
    orders = folded(*(order(command, at, 30 if command is C.EXTEND else 0) for command, at in sorted(moments, key=lambda one: one[1])))
    assert 0 <= orders.paused_seconds(SINCE, SINCE + now) <= now
