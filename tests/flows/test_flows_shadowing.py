"""What a shadow and a bake decide, and what a controller that takes them up again makes of what stands in the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from fleet.commands import Command
from fleet.declared import Fleet
from fleet.evidence import Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import baking, effects, obeying, shadowing
from flows.desires import model_stream, observe_candidate
from flows.orders import OBEYED, Order, Orders
from flows.work import Claim, Work
from monitoring.shadowed import Copies
from registry.leases import Leases
from registry.ledger import Ledger, NewEvent
from support.stack import toy_fleet
from traffic.edges import Shifted

REVISION, STABLE = Revision("toy", "2", "sha256:" + "2" * 64), Revision("toy", "1", "sha256:" + "1" * 64)
SHADOW = {"percent": 50, "seconds": 60, "answers": 5}
BAKE = {"mode": "blue-green", "bake_seconds": 30}


def verdict(outcome: Outcome) -> Verdict:
    return Verdict(outcome, ("because",), 0.0, 20.0, ())


class Clock:
    """Tells a second more each time it is asked, and so lets no test wait."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1000)

    def time(self) -> float:
        return float(next(self._ticks))

    monotonic = time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    found.migrate()
    stable = {"version": STABLE.version, "digest": STABLE.digest, "release": "an earlier one"}
    found.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))
    return found


def work_with(ledger: Ledger, traffic: dict[str, Any]) -> Iterator[Work]:
    """Give a release of version 2, deployed beside version 1, of a model that declares its traffic."""
    desire = observe_candidate(ledger, "toy", "2", "test")
    assert desire is not None
    fleet = toy_fleet(("toy",))
    model = {name: value for name, value in fleet["models"]["toy"].items() if name != "canary"} | {"traffic": traffic}
    declared = Fleet.model_validate({**fleet, "models": {"toy": model}})
    leases = Leases(ledger)
    lease = leases.take("toy", "test", 30)
    assert lease is not None
    house: Any = SimpleNamespace(
        ledger=ledger, leases=leases, settings=SimpleNamespace(crash_at=None, tick_seconds=0.01), model=declared.models.get, edges=()
    )
    with leases.held(lease) as held, disable_run_logger():
        work = Work.of(house, desire, Claim(held))
        for each in (ReleasePhase.VALIDATING, ReleasePhase.PACKAGING, ReleasePhase.REPLICATING, ReleasePhase.DEPLOYING):
            work.journal.enter(each)
        work.journal.effect(effects.PACKAGE, lambda: {"digest": REVISION.digest})
        yield work


@pytest.fixture
def shadowed(ledger: Ledger) -> Iterator[Work]:
    yield from work_with(ledger, {"shadow": SHADOW})


@pytest.fixture
def at_once(ledger: Ledger) -> Iterator[Work]:
    yield from work_with(ledger, {**BAKE, "shadow": SHADOW})


@pytest.fixture
def dealt(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was dealt out, with edges, judge and clock that are not there."""
    found = list[Any]()
    clock = Clock()
    monkeypatch.setattr(obeying, "time", clock)
    for flow in (shadowing, baking):
        monkeypatch.setattr(flow, "deal", lambda *given: found.append(given[3]) or Shifted("toy", (), ()))
        monkeypatch.setattr(flow, "weights_at", lambda *_: {})
        monkeypatch.setattr(flow, "open_case", lambda *_: None)
        monkeypatch.setattr(flow, "time", clock)
    monkeypatch.setattr(shadowing, "copy_requests", shadowing.copy_requests.fn)
    monkeypatch.setattr(baking, "hold", baking.hold.fn)
    monkeypatch.setattr(shadowing, "show_shadow", lambda *_: None)
    monkeypatch.setattr(baking, "show_verdict", lambda *_: None)
    monkeypatch.setattr(baking, "stable_is_warm", lambda *_: ())
    return found


def seen(monkeypatch: pytest.MonkeyPatch, outcome: Outcome, answers: int = 9) -> None:
    monkeypatch.setattr(shadowing, "look", lambda *_: (verdict(outcome), Copies(answers, 0, answers, 0)))


@pytest.mark.parametrize(
    ("mode", "outcome", "goes_on"),
    [
        ("shadowed", Outcome.PROMOTE, True),
        ("shadowed", Outcome.NOT_ENOUGH_DATA, True),
        ("shadowed", Outcome.ROLL_BACK, False),
        ("at_once", Outcome.PROMOTE, True),
        ("at_once", Outcome.NOT_ENOUGH_DATA, False),
        ("at_once", Outcome.ROLL_BACK, False),
    ],
)
def test_what_a_shadow_came_to_decides_whether_callers_may_meet_it(
    mode: str, outcome: Outcome, goes_on: bool, request: pytest.FixtureRequest, dealt: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work: Work = request.getfixturevalue(mode)
    seen(monkeypatch, outcome)
    assert shadowing.shadow(work, REVISION) == (() if goes_on else ("As a shadow: because",))
    assert [deal.copies for deal in dealt] == [50, 50, 0]
    assert {deal.weight for deal in dealt} == {0}


def test_a_shadow_ends_at_its_number_of_answers_or_when_its_time_is_over(
    shadowed: Work, dealt: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen(monkeypatch, Outcome.NOT_ENOUGH_DATA, answers=4)
    shadowing.shadow(shadowed, REVISION)
    # The clock tells a second at each question, and it is asked four times in each round
    assert 10 < len(dealt) < 30
    (told,) = (
        event.payload for event in shadowed.journal.events() if event.effect_key == effects.SEEN and event.type == "effect.completed"
    )
    assert {name: told[name] for name in ("answers", "bad", "pairs", "disagreed")} == {"answers": 4, "bad": 0, "pairs": 4, "disagreed": 0}


def test_a_shadow_that_was_seen_to_its_end_is_not_begun_again(shadowed: Work, dealt: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, Outcome.ROLL_BACK)
    first = shadowing.shadow(shadowed, REVISION)
    dealt.clear()
    seen(monkeypatch, Outcome.PROMOTE)
    assert shadowing.shadow(shadowed, REVISION) == first
    assert dealt == []


@pytest.mark.parametrize("phase", [ReleasePhase.CANARY, ReleasePhase.BAKING])
def test_a_release_that_is_past_its_shadow_gets_none(shadowed: Work, dealt: list[Any], phase: ReleasePhase) -> None:
    shadowed.journal.enter(ReleasePhase.CANARY)
    shadowed.journal.enter(phase)
    assert shadowing.shadow(shadowed, REVISION) == ()
    assert dealt == []


def test_a_canary_is_walked_unless_everything_is_switched_at_once_or_it_bakes(shadowed: Work) -> None:
    assert shadowed.walks
    shadowed.journal.enter(ReleasePhase.CANARY)
    assert shadowed.walks
    shadowed.journal.enter(ReleasePhase.BAKING)
    assert not shadowed.walks


def test_what_is_switched_at_once_walks_no_canary(at_once: Work) -> None:
    assert not at_once.walks


@pytest.mark.parametrize(
    ("said", "ends"),
    [
        ([Outcome.NOT_ENOUGH_DATA] * 40 + [Outcome.PROMOTE], ()),
        ([Outcome.PROMOTE] * 500, ()),
        ([Outcome.PROMOTE, Outcome.ROLL_BACK], ("because",)),
        ([Outcome.NOT_ENOUGH_DATA] * 3000, ("The bake had no verdict within 1830 s.", "because")),
    ],
    ids=["proven late", "proven all along", "harmful", "never proven"],
)
def test_a_bake_ends_with_the_judges_word_alone(
    at_once: Work, dealt: list[Any], said: list[Outcome], ends: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = iter(said)
    monkeypatch.setattr(baking, "tick", lambda *_: verdict(next(words)))
    monkeypatch.setattr(baking, "was_set_back", lambda *_: 0.0)
    assert baking.bake(at_once, REVISION) == ends
    assert dealt == [baking.EVERYTHING]
    assert at_once.phase is ReleasePhase.BAKING


@dataclass
class Spoken:
    """What people said: the orders that hold from each tick on, by its number."""

    script: dict[int, Orders]
    ticks: int = 0

    def tick(self, *_: object) -> Verdict:
        self.ticks += 1
        return verdict(Outcome.PROMOTE)

    def look(self, *_: object) -> tuple[Verdict, Copies]:
        return self.tick(), Copies(9, 0, 9, 0)

    def now(self, *_: object) -> Orders:
        return self.script[max(at for at in self.script if at <= self.ticks)]


def paused_at(second: int) -> Orders:
    return Orders(paused=order(Command.PAUSE, second))


def order(command: Command, second: int) -> Order:
    return Order(f"{command}-1", command, "night-shift", "it is night", "a test", datetime.fromtimestamp(second, UTC))


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> Spoken:
    found = Spoken({0: Orders()})
    monkeypatch.setattr(baking, "tick", found.tick)
    monkeypatch.setattr(baking, "was_set_back", lambda *_: 0.0)
    monkeypatch.setattr(shadowing, "look", found.look)
    monkeypatch.setattr(Work, "orders", property(found.now))
    return found


def test_a_bake_that_is_paused_promotes_nothing_and_its_time_stands_still(at_once: Work, dealt: list[Any], spoken: Spoken) -> None:
    spoken.script = {0: Orders(), 2: paused_at(1010), 60: Orders()}
    assert baking.bake(at_once, REVISION) == ()
    # Five seconds pass at each tick, of which the bake needs thirty
    assert 62 < spoken.ticks < 70


def test_a_pause_of_a_bake_that_nobody_ends_goes_back(at_once: Work, dealt: list[Any], spoken: Spoken) -> None:
    spoken.script = {0: Orders(), 2: paused_at(1000)}
    reasons = baking.bake(at_once, REVISION)
    assert reasons[0] == "Paused by operator night-shift: it is night; nobody resumed it within 3600 s."


def test_an_operator_ends_a_bake_early_and_the_ledger_says_what_was_left_out(at_once: Work, dealt: list[Any], spoken: Spoken) -> None:
    said = order(Command.PROMOTE, 1000)
    spoken.script = {0: Orders(), 2: Orders(promoted=said, pending=(said,))}
    assert baking.bake(at_once, REVISION) == ()
    assert spoken.ticks == 2
    (event,) = [event for event in at_once.journal.events() if event.type == OBEYED]
    assert "the rest of the bake" in str(event.payload["skipped"])


def test_no_operator_ends_a_bake_where_harm_is_found_or_the_way_back_is_cold(
    at_once: Work, dealt: list[Any], spoken: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = order(Command.PROMOTE, 1000)
    spoken.script = {0: Orders(promoted=said, pending=(said,))}
    cold = iter([(), ("stable is starting in eu",), ("stable is starting in eu",), ("stable is starting in eu",), ()])
    monkeypatch.setattr(baking, "stable_is_warm", lambda *_: next(cold))
    assert baking.bake(at_once, REVISION) == ()
    assert spoken.ticks == 4
    monkeypatch.setattr(baking, "stable_is_warm", lambda *_: ())
    monkeypatch.setattr(baking, "tick", lambda *_: verdict(Outcome.ROLL_BACK))
    assert baking.bake(at_once, REVISION) == ("because",)


def test_what_an_operator_had_promoted_out_of_its_canary_does_not_bake(at_once: Work, dealt: list[Any], spoken: Spoken) -> None:
    spoken.script = {0: Orders(promoted=order(Command.PROMOTE, 1000))}
    assert baking.bake(at_once, REVISION) == ()
    assert dealt == []


def test_a_shadow_that_is_paused_goes_on_answering_copies_until_somebody_resumes_it(
    shadowed: Work, dealt: list[Any], spoken: Spoken
) -> None:
    spoken.script = {0: paused_at(1010), 40: Orders()}
    assert shadowing.shadow(shadowed, REVISION) == ()
    assert [deal.copies for deal in dealt] == [*[50] * 42, 0]


def test_a_pause_of_a_shadow_that_nobody_ends_goes_back(shadowed: Work, dealt: list[Any], spoken: Spoken) -> None:
    spoken.script = {0: paused_at(1010)}
    (reason,) = shadowing.shadow(shadowed, REVISION)
    assert "nobody resumed it" in reason


def test_nothing_is_raised_while_stable_could_not_take_everything_back(
    at_once: Work, dealt: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baking, "stable_is_warm", lambda *_: ("stable is starting in eu",))
    assert baking.bake(at_once, REVISION) == ("stable is starting in eu",)
    assert dealt == []


def test_a_first_release_has_neither_shadow_nor_bake(ledger: Ledger, dealt: list[Any], tmp_path: Path) -> None:
    alone = Ledger(f"sqlite:///{tmp_path / 'first.db'}")
    alone.migrate()
    for work in work_with(alone, {**BAKE, "shadow": SHADOW}):
        assert shadowing.shadow(work, REVISION) == baking.bake(work, REVISION) == ()
    assert dealt == []
