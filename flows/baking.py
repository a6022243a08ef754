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
from flows.canary import Pair, unless_set_back, was_set_back
from flows.judging import judge_now, open_case, record
from flows.observed import Sides
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
    promote, be it for what the canary has shown or, where everything was switched at once, for the bake alone.
    """
    stable = work.rival
    if work.declared.traffic.bake_seconds is None or stable is None:
        return ()
    work.journal.enter(ReleasePhase.BAKING)
    if cold := wait_until_warm(work, stable):
        return cold
    begun = work.journal.effect(effects.BAKE, lambda: _switch(work, revision, stable), revision=revision.digest, stable=stable.digest)
    verdict = hold(work, (revision, stable), int(str(begun["since"])))
    show_verdict(work, verdict)
    return () if verdict.outcome is Outcome.PROMOTE else verdict.reasons


@task(cache_policy=NO_CACHE)
def hold(work: Work, pair: tuple[Revision, Revision], began: int) -> Verdict:
    """Look at each tick until the bake is over; returns the last verdict."""
    revision, stable = pair
    since = work.since(effects.CANARY, effects.BAKE) or began
    seen = open_case(work, Sides(work.model, revision.digest, stable.digest), since)
    found = Pair(revision, stable, since, time.time() - time.monotonic(), seen)
    # What is left of it goes by the steady clock: one that is set forward must not end it
    taken_up, lasted_before = time.monotonic(), max(0.0, time.time() - began)
    while True:
        work.check()
        verdict = tick(work, found, began)
        lasted = lasted_before + time.monotonic() - taken_up
        over = lasted >= (work.declared.traffic.bake_seconds or 0.0)
        if verdict.outcome is Outcome.ROLL_BACK or was_set_back(found, time.time(), time.monotonic()):
            return verdict
        if over and verdict.outcome is Outcome.PROMOTE:
            return verdict
        if lasted >= longest(work):
            return too_late(work, verdict)
        time.sleep(work.house.settings.tick_seconds)


def tick(work: Work, pair: Pair, began: int) -> Verdict:
    """Renew the edges' table, look at what was answered, judge, and record it.

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
    record(work, replace(judged, verdict=verdict), EVERYTHING.weight, share)
    at_edges = weights_at(states, work.model, pair.canary.digest)
    show_progress(work, Progress(EVERYTHING.weight, at_edges, share, verdict, judged.seconds_left))
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


def longest(work: Work) -> float:
    """Return how many seconds a bake may take until there is a verdict."""
    return (work.declared.traffic.bake_seconds or 0.0) + work.declared.canary.max_seconds


def too_late(work: Work, verdict: Verdict) -> Verdict:
    """Return a verdict without its outcome: what ran out of time is never promoted."""
    why = f"The bake had no verdict within {longest(work):.0f} s."
    return replace(verdict, outcome=Outcome.NOT_ENOUGH_DATA, reasons=(why, *verdict.reasons))


def _switch(work: Work, revision: Revision, stable: Revision) -> dict[str, JSON]:
    states = deal(work, revision, stable, EVERYTHING).states
    seen: dict[str, JSON] = dict(weights_at(states, work.model, revision.digest))
    return {"since": int(time.time()), "seen": seen}
