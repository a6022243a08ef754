"""The canary: live requests in rising shares, and a judge that looks at every tick."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.errors import Unreachable
from fleet.evidence import Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.incidents import ShareWatch
from flows.judging import judge_now, judge_seen, open_case, record
from flows.obeying import promoted_now, turn_now
from flows.observed import Observed, Sides
from flows.orders import FREE, Go, Turn
from flows.routing import Deal, deal, stable_is_warm, weights_at
from flows.showing import Progress, show_progress, show_verdict
from flows.spending import allowance
from flows.stages import Stage, stages_of
from flows.work import Work
from monitoring.share import LATEST_SECONDS, MeasuredShare, measured_share
from registry.ledger import JSON
from traffic.edge_state import EdgeState

SLEWED_SECONDS = 2.0
"""As much as a clock that is put right slowly may differ from the steady one after an hour."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two revisions between which the requests are split, since a second of Unix time.

    `offset` is Unix time less the steady clock when this run took the canary up; `seen` is all that was ever counted, and
    `watch` looks whether the share that was asked for is the one that is seen.
    """

    canary: Revision
    stable: Revision
    since: int
    offset: float
    seen: Observed
    watch: ShareWatch = field(default_factory=ShareWatch)


@dataclass(frozen=True, slots=True)
class At:
    """Where a walk stands at a tick: its step, what the canary has in each region, and since when (Unix time)."""

    stage: Stage
    dealt: Deal
    since: float


def canary(work: Work, revision: Revision) -> Verdict | None:
    """Walk the declared steps, wave by wave, and return the last verdict; None where there is nothing to compare with.

    A first release has no stable revision, and a rollback brings back one that was stable. Only the last step of the
    last wave, held to its end, can promote: a canary that runs out of time has no verdict.
    """
    stable = work.rival
    if stable is None:
        return None
    work.journal.enter(ReleasePhase.CANARY)
    began = work.journal.effect(effects.CANARY, lambda: {"since": int(time.time())}, canary=revision.digest, stable=stable.digest)
    since, sides = int(str(began["since"])), Sides(work.model, revision.digest, stable.digest)
    pair = Pair(revision, stable, since, time.time() - time.monotonic(), open_case(work, sides, since))
    verdict = judge_seen(work, pair.seen)
    for stage in stages_of(work.declared.canary):
        verdict, told = walk.with_options(task_run_name=stage.name)(work, pair, stage)
        verdict = unless_late(stage, verdict, told)
        if verdict.outcome is Outcome.ROLL_BACK or told.ends or was_set_back(pair, time.time(), time.monotonic()):
            break
    show_verdict(work, verdict)
    return verdict


@task(cache_policy=NO_CACHE)
def walk(work: Work, pair: Pair, stage: Stage) -> tuple[Verdict, Turn]:
    """Hold one step until it has lasted and its share is measured; the last one until there is a verdict.

    While stable could not take everything back, or the harm budget does not afford the step, the weight before stays and
    nothing rises; nor does it while a person holds the canary, and then the step's time stands still. Where the budget
    decides, the share falls again when bad answers use it up. Returns the turn on which it ended as well.
    """
    step, began, held_seconds, looked, verdict = stage.step, None, 0.0, 0.0, judge_seen(work, pair.seen)
    weight, told = stage.before, turn_now(work, pair.since)
    while True:
        work.check()
        missing, allowed = stable_is_warm(work, pair.stable), allowance(work, verdict)
        before, told = told, turn_now(work, pair.since)
        if allowed is not None and not allowed.percent:
            return replace(verdict, outcome=Outcome.ROLL_BACK, reasons=(f"No share is left: {allowed.why}.", *verdict.reasons)), told
        affordable = 100 if allowed is None else allowed.percent
        if began is None and not missing and affordable >= step.weight and told.go is Go.ON:
            act = partial(_switch, work, pair, stage.deal(step.weight, affordable))
            work.journal.effect(effects.weight(step.weight, stage.wave), act, weight=step.weight, **stage.where)
            began, looked = time.time(), time.monotonic()
        most = weight if told.go is not Go.ON else stage.before if began is None else step.weight
        weight = min(affordable, most)
        verdict, share = tick(work, pair, At(stage, stage.deal(weight, affordable), began or time.time()), told)
        told = turn_now(work, pair.since)
        if verdict.outcome is Outcome.ROLL_BACK or was_set_back(pair, time.time(), time.monotonic()):
            return verdict, told
        if not missing and (promoted := promoted_now(work, told, verdict, left_out(work, stage, held_seconds))) is not None:
            return promoted, replace(told, ended=True)
        if began is not None:
            looked, passed = time.monotonic(), time.monotonic() - looked
            held_seconds += 0.0 if before.holds else passed
        # The tick that finds its time up may still find the step held to its end; no later one
        free = told.orders.paused is None and not (told.holds and before.holds)
        held = began is not None and free and not missing and share.real and held_seconds >= step.seconds
        if held and (not stage.last or verdict.outcome is Outcome.PROMOTE):
            return verdict, told
        if told.over:
            return too_late(verdict, (*told.reasons, *missing)), told
        if missing:
            get_run_logger().warning("%s stays at %d %%: %s", work.desire.release, weight, "; ".join(missing))
        time.sleep(work.house.settings.tick_seconds)


def tick(work: Work, pair: Pair, at: At, told: Turn = FREE) -> tuple[Verdict, MeasuredShare]:
    """Renew the edges' table, look at what was answered, judge, and record it beside what people ordered.

    An edge that is away ends the tick with its error, but keeps no harm from being found in what the others tell.
    """
    states: tuple[EdgeState, ...] = ()
    away: Unreachable | None = None
    try:
        states = deal(work, pair.canary, pair.stable, at.dealt).states
    except Unreachable as problem:
        away = problem
    weight, wave = at.dealt.weight, at.stage.wave
    judged = judge_now(work, pair.seen, weight, wave)
    verdict = unless_set_back(pair, judged.verdict, time.time(), time.monotonic())
    attempts, recent = pair.seen.evidence(work.regions).attempts, max(int(at.since) + 1, pair.seen.horizon - LATEST_SECONDS)
    attempts = attempts.within(at.stage.regions)
    share = measured_share(attempts, pair.canary.digest, recent, weight, by_caller=work.declared.traffic.sticky is not None)
    told = told.beside(pair.watch.look(work, share, weight))
    record(work, replace(judged, verdict=verdict, held=told.reasons, wave=wave), weight, share)
    at_edges, where = weights_at(states, work.model, pair.canary.digest), at.stage.in_words
    show_progress(work, Progress(weight, at_edges, share, verdict, judged.seconds_left, told, where))
    if away is not None and verdict.outcome is not Outcome.ROLL_BACK:
        raise away
    return verdict, share


def left_out(work: Work, stage: Stage, held_seconds: float) -> tuple[str, ...]:
    """Return what of the walk has not been walked."""
    walk = stages_of(work.declared.canary)
    rest = ", ".join(_words(each) for each in walk[walk.index(stage) + 1 :])
    step = f"the rest of the step of {stage.step.weight} %, held for {held_seconds:.0f} of {stage.step.seconds:.0f} s"
    bake = work.declared.traffic.bake_seconds
    return (step, *((f"the steps of {rest}",) if rest else ()), *((f"the bake of {bake:.0f} s",) if bake is not None else ()))


def _words(stage: Stage) -> str:
    return f"{stage.step.weight} %{stage.in_words}"


def unless_late(stage: Stage, verdict: Verdict, told: Turn) -> Verdict:
    """Return a step's verdict; when time ran out right after a step that is not the last one, it is none."""
    return too_late(verdict, told.reasons) if told.over and not stage.last and verdict.outcome is not Outcome.ROLL_BACK else verdict


def too_late(verdict: Verdict, why: tuple[str, ...]) -> Verdict:
    """Return a verdict without its outcome: what ran out of time is never promoted."""
    return replace(verdict, outcome=Outcome.NOT_ENOUGH_DATA, reasons=(*why, *verdict.reasons))


def was_set_back(pair: Pair, now: float, steady: float) -> float:
    """Return by how many seconds the clock (Unix time) fell behind the steady one or the canary's begin; 0 for what may be slewing."""
    back = max(pair.offset - (now - steady), pair.since - now)
    return back if back > SLEWED_SECONDS else 0.0


def unless_set_back(pair: Pair, verdict: Verdict, now: float, steady: float) -> Verdict:
    """Return a verdict, without its outcome when the clock was set back: evidence is counted by the second of the day."""
    back = was_set_back(pair, now, steady)
    if not back or verdict.outcome is Outcome.ROLL_BACK:
        return verdict
    why = f"The clock was set back by {back:.0f} s during the canary, so that its seconds cannot be told apart any more."
    return replace(verdict, outcome=Outcome.NOT_ENOUGH_DATA, reasons=(why, *verdict.reasons))


def _switch(work: Work, pair: Pair, dealt: Deal) -> dict[str, JSON]:
    shifted = deal(work, pair.canary, pair.stable, dealt)
    seen: dict[str, JSON] = dict(weights_at(shifted.states, work.model, pair.canary.digest))
    return {"weight": dealt.weight, "seen": seen, "spread_seconds": f"{shifted.spread:.3f}"}
