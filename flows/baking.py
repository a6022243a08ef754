"""The bake: the revision has everything, the one before stays warm to take it back, and the judge looks on."""

from __future__ import annotations

import time
from dataclasses import replace

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.errors import Unreachable
from fleet.evidence import Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.canary import Pair, too_late, unless_set_back, was_set_back
from flows.judging import judge_now, open_case, record
from flows.obeying import decided_by, promoted_now, turn_now
from flows.observed import Sides
from flows.orders import Turn
from flows.routing import Deal, deal, stable_is_warm, weights_at
from flows.showing import Progress, show_progress, show_verdict
from flows.work import Work
from monitoring.share import LATEST_SECONDS, measured_share
from registry.ledger import JSON
from traffic.edge_state import EdgeState

EVERYTHING = Deal(100, baking=True)


def bake(work: Work, revision: Revision) -> tuple[str, ...]:
    """Hold everything on a revision as long as declared; returns why it must go back, or nothing.

    What the canary has shown counts on, so harm is found against one error budget. At the end the judge must say
    promote, be it for what the canary has shown or, where everything was switched at once, for the bake alone. What an
    operator had promoted out of its canary does not bake.
    """
    stable, seconds = work.rival, work.declared.traffic.bake_seconds
    if seconds is None or stable is None or (work.phase is not ReleasePhase.BAKING and decided_by(work)):
        return ()
    work.journal.enter(ReleasePhase.BAKING)
    if cold := wait_until_warm(work, stable):
        return cold
    begun = work.journal.effect(effects.BAKE, lambda: _switch(work, revision, stable), revision=revision.digest, stable=stable.digest)
    verdict = hold(work, (revision, stable), int(str(begun["since"])), seconds)
    show_verdict(work, verdict)
    return () if verdict.outcome is Outcome.PROMOTE else verdict.reasons


@task(cache_policy=NO_CACHE)
def hold(work: Work, pair: tuple[Revision, Revision], began: int, seconds: float) -> Verdict:
    """Look at each tick until the bake has lasted `seconds`, as often as a person does not hold it; returns the last verdict."""
    revision, stable = pair
    since = work.since(effects.CANARY, effects.BAKE) or began
    seen = open_case(work, Sides(work.model, revision.digest, stable.digest), since)
    found = Pair(revision, stable, since, time.time() - time.monotonic(), seen)
    told = turn_now(work, began, seconds)
    # What is left of it goes by the steady clock: one that is set forward must not end it
    looked, now = time.monotonic(), time.time()
    held = max(0.0, now - began - told.orders.paused_seconds(began, now))
    while True:
        work.check()
        before, verdict = told, tick(work, found, began, told)
        told = turn_now(work, began, seconds)
        if verdict.outcome is Outcome.ROLL_BACK or was_set_back(found, time.time(), time.monotonic()):
            return verdict
        rest = (f"the rest of the bake, {held:.0f} of {seconds:.0f} s",)
        if not stable_is_warm(work, stable) and (promoted := promoted_now(work, told, verdict, rest)) is not None:
            return promoted
        looked, passed = time.monotonic(), time.monotonic() - looked
        held += 0.0 if before.holds else passed
        # The tick that finds its time up may still find the verdict; no later one
        free = told.orders.paused is None and not (told.holds and before.holds)
        if free and held >= seconds and verdict.outcome is Outcome.PROMOTE:
            return verdict
        if told.over:
            return too_late(verdict, told.reasons)
        time.sleep(work.house.settings.tick_seconds)


def tick(work: Work, pair: Pair, began: int, told: Turn) -> Verdict:
    """Renew the edges' table, look at what was answered, judge, and record it beside what people ordered.

    An edge that is away ends the tick with its error, but keeps no harm from being found in what the others tell.
    """
    states: tuple[EdgeState, ...] = ()
    away: Unreachable | None = None
    try:
        states = deal(work, pair.canary, pair.stable, EVERYTHING).states
    except Unreachable as problem:
        away = problem
    judged = judge_now(work, pair.seen, EVERYTHING.weight)
    verdict = unless_set_back(pair, judged.verdict, time.time(), time.monotonic())
    attempts, recent = pair.seen.evidence(work.regions).attempts, max(began + 1, pair.seen.horizon - LATEST_SECONDS)
    share = measured_share(attempts, pair.canary.digest, recent, EVERYTHING.weight)
    told = told.beside(pair.watch.look(work, share, EVERYTHING.weight))
    record(work, replace(judged, verdict=verdict, held=told.reasons), EVERYTHING.weight, share)
    at_edges = weights_at(states, work.model, pair.canary.digest)
    show_progress(work, Progress(EVERYTHING.weight, at_edges, share, verdict, judged.seconds_left, told))
    if away is not None and verdict.outcome is not Outcome.ROLL_BACK:
        raise away
    return verdict


def wait_until_warm(work: Work, stable: Revision) -> tuple[str, ...]:
    """Wait until stable could take everything back; returns why it cannot, once that has lasted too long.

    Until then nothing is raised, and a share that the canary had ends with its table.
    """
    deadline = time.monotonic() + work.declared.canary.max_seconds
    while not work.journal.completed(effects.BAKE) and (missing := stable_is_warm(work, stable)):
        work.check()
        if time.monotonic() > deadline:
            return missing
        get_run_logger().warning("%s does not bake yet: %s", work.desire.release, "; ".join(missing))
        time.sleep(work.house.settings.tick_seconds)
    return ()


def _switch(work: Work, revision: Revision, stable: Revision) -> dict[str, JSON]:
    states = deal(work, revision, stable, EVERYTHING).states
    seen: dict[str, JSON] = dict(weights_at(states, work.model, revision.digest))
    return {"since": int(time.time()), "seen": seen}
