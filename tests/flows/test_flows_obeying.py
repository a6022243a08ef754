"""How a release does as it is told: nothing rises while it is held, harm comes first, and no order slips in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from fleet.commands import Command
from fleet.declared import Approval, Canary, Model, Step
from fleet.errors import Busy
from fleet.evidence import Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import canary as module
from flows import effects, endings, obeying
from flows.canary import canary, walk
from flows.desires import observe_candidate, release_stream
from flows.house import House
from flows.judging import Judged
from flows.obeying import may_have_traffic, may_promote
from flows.orders import COMMANDED, OBEYED, Order, payload_of
from flows.parking import parked, to_tell
from flows.routing import Deal
from flows.spending import Allowance
from flows.work import AbortedError, Claim, DeniedError, SupersededError, Work
from monitoring.share import MeasuredShare
from registry.ledger import NewEvent
from support.stack import house_without_servers
from traffic.edges import Shifted

P, C = ReleasePhase, Command
CANARY_REVISION = Revision("toy", "2", "sha256:" + "2" * 64)
STABLE = Revision("toy", "1", "sha256:" + "1" * 64)
STEPS = (Step(weight=20, seconds=0.05), Step(weight=50, seconds=0.05))


@dataclass
class Scene:
    """A release under canary whose edges, judge and regions are lists: what they say at each tick, the last word for ever.

    `script` has what is called at the tick of a number, from 1, `every` at any other; a real ledger and lease are behind it.
    """

    work: Work
    verdicts: list[Outcome] = field(default_factory=lambda: [Outcome.NOT_ENOUGH_DATA])
    missing: list[tuple[str, ...]] = field(default_factory=lambda: [()])
    script: dict[int, Callable[[], object]] = field(default_factory=dict)
    weights: list[int] = field(default_factory=list)
    every: Callable[[], object] = lambda: None
    dealt: list[Deal] = field(default_factory=list)

    def order(self, command: Command, seconds: int = 0, digest: str | None = None) -> Order:
        """Have an operator say something."""
        desire, ledger = self.work.desire, self.work.house.ledger
        said = Order(f"{command}-{len(ledger.events())}", command, "night-shift", "a test", "a test", ledger.now(), seconds, digest)
        new = NewEvent(release_stream(desire.release), COMMANDED, payload_of(said), "operator night-shift", intent_id=said.id)
        ledger.append(new)
        return said

    def obeyed(self) -> list[str]:
        """Return the commands that the release says it obeyed."""
        return [str(event.payload["command"]) for event in self.work.journal.events() if event.type == OBEYED]

    def weigh(self, _work: Work, _canary: Revision, _stable: Revision, dealt: Deal) -> Shifted:
        self.script.pop(len(self.weights) + 1, self.every)()
        self.weights.append(dealt.weight)
        self.dealt.append(dealt)
        return Shifted("toy", (), ())

    def verdict(self) -> Verdict:
        outcome = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        return Verdict(outcome, ("as the test has it",), 0.0, 20.0, ())

    def judge(self, *_: object) -> Judged:
        return Judged(self.verdict(), {"counts": [], "pairs": [], "complete_to": {}}, None)

    def warm(self, *_: object) -> tuple[str, ...]:
        return self.missing.pop(0) if len(self.missing) > 1 else self.missing[0]


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = house_without_servers(tmp_path)
    vars(found)["settings"] = found.settings.model_copy(update={"tick_seconds": 0.02})
    return found


def declare(house: House, **changes: Any) -> None:
    """Change what fleet.yaml says of the model."""
    model: Model = house.model("toy").model_copy(update=changes)
    vars(house)["fleet"] = house.fleet.model_copy(update={"models": {"toy": model}})


@pytest.fixture
def scene(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    declare(house, canary=Canary(steps=STEPS, max_seconds=60))
    desire = observe_candidate(house.ledger, "toy", "2", "test")
    assert desire is not None
    lease = house.leases.take("toy", "test", 30)
    assert lease is not None
    with house.leases.held(lease) as held:
        found = Scene(Work.of(house, desire, Claim(held)))
        for phase in (P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING):
            found.work.journal.enter(phase)
        found.work.journal.effect(effects.PACKAGE, lambda: {"digest": CANARY_REVISION.digest})
        monkeypatch.setattr(module, "deal", found.weigh)
        monkeypatch.setattr(module, "judge_now", found.judge)
        monkeypatch.setattr(module, "stable_is_warm", found.warm)
        monkeypatch.setattr(module, "measured_share", lambda *_, **__: MeasuredShare(0.2, 100, real=True))
        monkeypatch.setattr(module, "weights_at", lambda *_: {})
        for shown in ("show_progress", "show_verdict"):
            monkeypatch.setattr(module, shown, lambda *_: None)
        monkeypatch.setattr(obeying, "open_desk", lambda *_: None)
        monkeypatch.setattr(obeying, "close_desk", lambda *_: None)
        monkeypatch.setattr(Work, "stable", STABLE)
        monkeypatch.setattr(walk, "with_options", lambda **_: walk.fn)
        with disable_run_logger():
            yield found


def walked(scene: Scene) -> Verdict:
    verdict = canary(scene.work, CANARY_REVISION)
    assert verdict is not None
    return verdict


def test_a_canary_to_which_nobody_speaks_walks_as_declared(scene: Scene) -> None:
    scene.verdicts = [Outcome.PROMOTE]
    assert walked(scene).outcome is Outcome.PROMOTE
    assert sorted(set(scene.weights)) == [20, 50]


WAVES = (("us-east-1",), ("europe-west4", "southeastasia"))


def test_waves_are_walked_one_after_another_and_only_the_last_step_of_the_last_promotes(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=60, waves=WAVES))
    scene.verdicts = [Outcome.PROMOTE]
    assert walked(scene).outcome is Outcome.PROMOTE
    walk = [Deal(weight, elsewhere=(("europe-west4", 0), ("southeastasia", 0))) for weight in (20, 50)]
    assert list(dict.fromkeys(scene.dealt)) == [*walk, *(Deal(weight, elsewhere=(("us-east-1", 50),)) for weight in (20, 50))]
    kept = [str(event.effect_key) for event in scene.work.journal.events() if event.type == "effect.completed"]
    assert [key for key in kept if key.startswith("weight:")] == ["weight:20", "weight:50", "weight:20@2", "weight:50@2"]


def test_harm_in_a_later_wave_ends_the_walk_and_no_further_region_meets_the_canary(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=60, waves=WAVES))
    second = Deal(20, elsewhere=(("us-east-1", 50),))
    scene.every = lambda: second in scene.dealt and scene.verdicts.insert(0, Outcome.ROLL_BACK)
    assert walked(scene).outcome is Outcome.ROLL_BACK
    assert set(scene.dealt[scene.dealt.index(second) :]) == {second}


def test_while_a_later_wave_is_held_the_regions_before_it_keep_their_share(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=60, waves=WAVES))
    scene.verdicts = [Outcome.PROMOTE]
    scene.every = lambda: scene.missing.__setitem__(0, ("stable is starting in eu",) if len(scene.dealt) in range(11, 20) else ())
    assert walked(scene).outcome is Outcome.PROMOTE
    assert all(dict(dealt.elsewhere).get("us-east-1", 50) in (20, 50) for dealt in scene.dealt)


def test_a_pause_keeps_the_weight_renews_the_table_and_lets_no_time_pass(scene: Scene) -> None:
    scene.verdicts = [Outcome.PROMOTE]
    scene.script = {2: lambda: scene.order(C.PAUSE), 20: lambda: scene.order(C.RESUME)}
    assert walked(scene).outcome is Outcome.PROMOTE
    assert set(scene.weights[:20]) == {20}
    assert scene.weights[-1] == 50
    assert scene.obeyed() == ["pause", "resume"]


def test_a_share_that_fell_under_a_pause_for_the_harm_budget_does_not_rise_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    afforded = [50, 50, 10]
    monkeypatch.setattr(module, "allowance", lambda *_: Allowance(afforded.pop(0) if afforded else 50, "as the test has it"))
    scene.script = {2: lambda: scene.order(C.PAUSE)}
    scene.verdicts = [Outcome.NOT_ENOUGH_DATA] * 8 + [Outcome.ROLL_BACK]
    walked(scene)
    # The first is the switch itself
    assert scene.weights[:5] == [20, 20, 20, 10, 10]
    assert set(scene.weights[3:]) == {10}


def test_harm_under_a_pause_rolls_back_at_once(scene: Scene) -> None:
    scene.verdicts = [Outcome.PROMOTE] * 4 + [Outcome.ROLL_BACK]
    scene.script = {1: lambda: scene.order(C.PAUSE)}
    assert walked(scene).outcome is Outcome.ROLL_BACK
    assert set(scene.weights) == {20}


def test_a_paused_release_that_is_taken_up_again_raises_nothing(scene: Scene) -> None:
    scene.order(C.PAUSE)
    scene.verdicts = [Outcome.PROMOTE] * 6 + [Outcome.ROLL_BACK]
    walked(scene)
    assert set(scene.weights) == {0}


def test_a_pause_that_nobody_ends_goes_back_to_safe(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=60, pause_seconds=0.2))
    scene.verdicts = [Outcome.PROMOTE]
    scene.script = {1: lambda: scene.order(C.PAUSE)}
    verdict = walked(scene)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert "nobody resumed it within 0 s" in verdict.reasons[0]
    assert set(scene.weights) == {20}


def test_promote_now_skips_what_is_left_and_says_so_in_the_ledger(scene: Scene) -> None:
    scene.script = {2: lambda: scene.order(C.PROMOTE)}
    declare(scene.work.house, canary=Canary(steps=(Step(weight=20, seconds=30), *STEPS[1:]), max_seconds=60))
    verdict = walked(scene)
    assert verdict.outcome is Outcome.PROMOTE
    assert verdict.reasons[0] == "promoted now by operator night-shift: a test"
    assert set(scene.weights) == {20}
    (said,) = [event for event in scene.work.journal.events() if event.type == OBEYED]
    skipped = " ".join(map(str, said.payload["skipped"]))  # type: ignore[arg-type]
    for part in ("the rest of the step of 20 %", "of 30 s", "the steps of 50 %", "the judge's verdict, which is 'not enough data' so far"):
        assert part in skipped
    assert may_promote(scene.work)
    entered = scene.work.house.ledger.last(release_stream(scene.work.desire.release), "phase.entered")
    assert entered is not None
    assert entered.payload["reasons"] == ["promoted now by operator night-shift: a test"]


def test_promote_now_is_not_obeyed_where_harm_was_found(scene: Scene) -> None:
    scene.verdicts = [Outcome.ROLL_BACK]
    scene.order(C.PROMOTE)
    assert walked(scene).outcome is Outcome.ROLL_BACK
    assert scene.obeyed() == []


def test_harm_comes_before_a_persons_word(scene: Scene) -> None:
    scene.order(C.PROMOTE)
    assert obeying.promoted_now(scene.work, obeying.turn_now(scene.work, 0), scene.verdict(), ()) is not None
    scene.verdicts = [Outcome.ROLL_BACK]
    assert obeying.promoted_now(scene.work, obeying.turn_now(scene.work, 0), scene.verdict(), ()) is None


def test_promote_now_waits_until_the_way_back_is_warm(scene: Scene) -> None:
    scene.missing = [("stable is starting in us-east-1: it loads",)] * 4 + [()]
    scene.order(C.PROMOTE)
    assert walked(scene).outcome is Outcome.PROMOTE
    assert scene.weights[:4] == [0, 0, 0, 0]


def test_a_promotion_that_was_taken_back_by_a_pause_does_not_come(scene: Scene) -> None:
    scene.missing = [("stable is starting",)] * 3 + [()]
    scene.script = {2: lambda: scene.order(C.PAUSE)}
    scene.order(C.PROMOTE)
    scene.verdicts = [Outcome.PROMOTE] * 8 + [Outcome.ROLL_BACK]
    assert walked(scene).outcome is Outcome.ROLL_BACK
    assert set(scene.weights) == {0}


def test_an_abort_is_obeyed_at_the_next_tick(scene: Scene) -> None:
    scene.script = {3: lambda: scene.order(C.ABORT)}
    with pytest.raises(AbortedError, match="aborted by operator night-shift: a test"):
        walked(scene)
    # In its own tick the table is still renewed
    assert len(scene.weights) == 3


def last_judged(scene: Scene) -> str:
    judged = scene.work.house.ledger.last(release_stream(scene.work.desire.release), "canary.judged")
    return str(judged.payload) if judged else ""


def test_a_canary_whose_time_ended_asks_and_only_an_operator_promotes_it(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=0.5, without_verdict="ask", ask_seconds=20))
    # From the next whole second on, so that the last step is reached before its time is up
    scene.work.journal.effect(effects.CANARY, lambda: {"since": int(time.time()) + 1})
    asked = []

    def answer() -> None:
        if "waits another" in last_judged(scene):
            asked.append(1)
            scene.verdicts = [Outcome.PROMOTE]
        if len(asked) == 5:
            scene.order(C.PROMOTE)

    scene.every = answer
    assert walked(scene).reasons[0].startswith("promoted now by operator night-shift")
    assert (len(asked), scene.weights[-1]) == (5, 50)


@pytest.mark.parametrize("ending", ["roll back", "ask", "extend"])
def test_a_canary_without_a_verdict_is_rolled_back_in_the_end_and_never_promoted(scene: Scene, ending: str) -> None:
    short = Canary(steps=STEPS, max_seconds=0.2, without_verdict=ending, ask_seconds=0.1, extend_seconds=0.1)  # type: ignore[arg-type]
    declare(scene.work.house, canary=short)
    verdict = walked(scene)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert "had no verdict at its last step within 0 s" in verdict.reasons[0]


def test_an_extension_lets_a_canary_walk_on(scene: Scene) -> None:
    declare(scene.work.house, canary=Canary(steps=STEPS, max_seconds=0.2))
    scene.order(C.EXTEND, 60)
    began = time.monotonic()

    def good_answers_come_late() -> None:
        # The canary's begin is a whole second, so without the extension its time is up within 1.2 s
        if time.monotonic() - began > 1.3:
            scene.verdicts = [Outcome.PROMOTE]

    scene.every = good_answers_come_late
    assert walked(scene).outcome is Outcome.PROMOTE
    assert scene.obeyed() == ["extend"]


def test_no_pause_and_no_abort_slips_in_before_a_promotion(scene: Scene) -> None:
    scene.work.journal.enter(P.CANARY)
    pause = scene.order(C.PAUSE)
    assert may_promote(scene.work) is False
    assert scene.work.phase is P.CANARY
    scene.order(C.RESUME)
    scene.work.obeyed(pause)
    scene.order(C.ABORT)
    with pytest.raises(AbortedError):
        may_promote(scene.work)
    assert scene.work.phase is P.CANARY


def test_an_abort_that_comes_while_the_promotion_is_written_wins(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.work.journal.enter(P.CANARY)
    append, aborts = scene.work.house.ledger.append, [1]

    def overtaken(new: NewEvent, expected: int | None = None) -> object:
        if aborts and new.type == "phase.entered":
            aborts.clear()
            scene.order(C.ABORT)
        return append(new, expected)

    monkeypatch.setattr(scene.work.house.ledger, "append", overtaken)
    with pytest.raises(AbortedError):
        may_promote(scene.work)
    assert scene.work.phase is P.CANARY


def test_a_stream_that_never_stands_still_is_busy_and_nothing_is_entered(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.work.journal.enter(P.CANARY)

    def busy(*_: object, **__: object) -> None:
        raise Busy("stream", "has moved")

    monkeypatch.setattr(scene.work.house.ledger, "append", busy)
    with pytest.raises(Busy):
        may_promote(scene.work)


def test_without_a_declared_approval_nobody_is_asked(scene: Scene) -> None:
    assert may_have_traffic(scene.work, CANARY_REVISION)
    assert scene.work.phase is P.DEPLOYING


def asks(scene: Scene, within: float = 60) -> None:
    declare(scene.work.house, approval=Approval(required=True, within_seconds=within))


def test_a_release_that_needs_an_approval_is_parked_until_somebody_answers(scene: Scene) -> None:
    asks(scene)
    house, desire = scene.work.house, scene.work.desire
    assert may_have_traffic(scene.work, CANARY_REVISION) is False
    assert (scene.work.phase, parked(house, desire), to_tell(house, "toy")) == (P.AWAITING_APPROVAL, True, ())
    scene.order(C.APPROVE, digest=CANARY_REVISION.digest)
    assert (parked(house, desire), to_tell(house, "toy")) == (False, (desire,))
    assert may_have_traffic(scene.work, CANARY_REVISION)
    assert may_have_traffic(scene.work, CANARY_REVISION)
    assert scene.obeyed() == ["approve"]


def test_an_approval_of_another_digest_is_none(scene: Scene) -> None:
    asks(scene)
    may_have_traffic(scene.work, CANARY_REVISION)
    scene.order(C.APPROVE, digest=STABLE.digest)
    with pytest.raises(DeniedError, match=f"{STABLE.digest} was approved, and this is {CANARY_REVISION.digest}"):
        may_have_traffic(scene.work, CANARY_REVISION)


def test_a_release_that_nobody_approves_in_time_is_denied(scene: Scene) -> None:
    asks(scene)
    may_have_traffic(scene.work, CANARY_REVISION)
    asks(scene, within=0.001)
    assert to_tell(scene.work.house, "toy") == (scene.work.desire,)
    with pytest.raises(DeniedError, match="nobody approved it within 0 s"):
        may_have_traffic(scene.work, CANARY_REVISION)


def test_a_newer_version_does_not_wait_behind_one_that_waits_for_approval(scene: Scene) -> None:
    asks(scene)
    may_have_traffic(scene.work, CANARY_REVISION)
    newer = observe_candidate(scene.work.house.ledger, "toy", "3", "test")
    assert to_tell(scene.work.house, "toy") == (scene.work.desire, newer)
    with pytest.raises(SupersededError):
        may_have_traffic(scene.work, CANARY_REVISION)


def test_a_release_that_was_denied_ends_as_rejected_and_what_waited_warm_is_stopped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asks(scene)
    stopped: list[Revision] = []
    monkeypatch.setattr(endings, "retire", lambda _, revision: stopped.append(revision) or ())
    monkeypatch.setattr(endings, "show_ending", lambda *_: None)
    monkeypatch.setattr(endings, "close_desk", lambda *_: None)
    may_have_traffic(scene.work, CANARY_REVISION)
    scene.order(C.DENY, digest=CANARY_REVISION.digest)
    with pytest.raises(DeniedError, match="denied by operator night-shift: a test") as denied:
        may_have_traffic(scene.work, CANARY_REVISION)
    assert endings.deny(scene.work, denied.value.reason) is P.REJECTED
    assert (stopped, scene.obeyed()) == ([CANARY_REVISION], ["deny"])


def test_a_rollback_to_what_serves_that_is_aborted_stops_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Work, "stable", CANARY_REVISION)
    monkeypatch.setattr(endings, "retire", lambda *_: pytest.fail("what serves was stopped"))
    monkeypatch.setattr(endings, "roll_back", endings.roll_back.fn)
    monkeypatch.setattr(endings, "show_ending", lambda *_: None)
    scene.order(C.ABORT)
    assert endings.abort(scene.work, "aborted") is P.ROLLED_BACK
    assert scene.obeyed() == ["abort"]
