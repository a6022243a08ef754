"""The shadow: before any caller meets the revision, it answers copies of stable's requests, and what it answers is judged."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from fleet.declared_traffic import ShadowPlan
from fleet.evidence import Attempts, Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.judging import criteria, judge_now, open_case, record
from flows.obeying import shadow_turn_now
from flows.observed import Observed, Sides
from flows.routing import Deal, deal, weights_at
from flows.showing import show_shadow
from flows.work import Work
from monitoring.judge import CanaryEvidence
from monitoring.shadowed import Copies, judge_copies
from monitoring.share import MeasuredShare
from registry.ledger import JSON
from traffic.edges import observe

NONE_YET = MeasuredShare(0.0, 0, real=True)
PAST = (ReleasePhase.CANARY, ReleasePhase.BAKING)


def shadow(work: Work, revision: Revision) -> tuple[str, ...]:
    """Have a revision answer copies as declared; returns why it must not go on, or nothing.

    Evidence of harm sends it back. Where everything is switched at once it must also have proven itself: what a canary
    would show is then only seen when every caller meets it.
    """
    plan, stable = work.declared.traffic.shadow, work.rival
    if plan is None or stable is None or work.phase in PAST:
        return ()
    work.journal.enter(ReleasePhase.SHADOWING)
    begun = work.journal.effect(
        effects.SHADOW, lambda: _begin(work, revision, stable, plan), revision=revision.digest, percent=plan.percent
    )
    since = int(str(begun["since"]))
    if not work.journal.completed(effects.SEEN) and (why := copy_requests(work, (revision, stable), since)):
        return why
    seen = work.journal.effect(effects.SEEN, lambda: _end(work, (revision, stable), since), revision=revision.digest)
    reasons = seen["reasons"]
    told = tuple(str(reason) for reason in reasons) if isinstance(reasons, list) else ("what the shadow came to cannot be read",)
    unproven = seen["outcome"] != Outcome.PROMOTE and work.declared.traffic.mode == "blue-green"
    return told if unproven or seen["outcome"] == Outcome.ROLL_BACK else ()


@task(cache_policy=NO_CACHE)
def copy_requests(work: Work, pair: tuple[Revision, Revision], since: int) -> tuple[str, ...]:
    """Hold the copies for the declared time or number of answers, or until there is evidence of harm.

    A person's pause keeps them on, and their time stands still. Returns why the release must go back: a pause that
    nobody ended.
    """
    revision, stable = pair
    plan, began = work.declared.traffic.shadow, time.monotonic()
    seen = open_case(work, _sides(work, pair), since)
    while plan is not None:
        work.check()
        told = shadow_turn_now(work)
        states = deal(work, revision, stable, Deal(0, copies=plan.percent)).states
        verdict, copies = look(work, seen, since)
        show_shadow(work, copies, verdict, weights_at(states, work.model, revision.digest), told)
        # By both clocks: one that is set back must not hold the copies for ever
        now, paused = time.time(), told.orders.paused_seconds(since, time.time())
        lasted = max(now - since, time.monotonic() - began) - paused
        enough = plan.answers is not None and copies.answers >= plan.answers
        if told.over:
            return told.reasons
        if verdict.outcome is Outcome.ROLL_BACK or (not told.holds and (enough or lasted >= plan.seconds)):
            return ()
        time.sleep(work.house.settings.tick_seconds)
    return ()


def look(work: Work, seen: Observed, since: int) -> tuple[Verdict, Copies]:
    """Judge the shadow's pairs, as part of the release's evidence, and its own answers; record the first."""
    judged = judge_now(work, seen, 0)
    record(work, judged, 0, NONE_YET)
    if judged.verdict.outcome is Outcome.ROLL_BACK:
        return judged.verdict, Copies.of(_counted(work, since), seen.sides.canary)
    attempts = _counted(work, since)
    return _of_copies(work, attempts, seen.sides), Copies.of(attempts, seen.sides.canary)


def _of_copies(work: Work, attempts: Attempts, sides: Sides) -> Verdict:
    return judge_copies(criteria(work), CanaryEvidence(sides.canary, sides.stable, attempts, work.regions), datetime.now(UTC))


def _counted(work: Work, since: int) -> Attempts:
    return observe(work.house.edges, work.model, since)


def _sides(work: Work, pair: tuple[Revision, Revision]) -> Sides:
    return Sides(work.model, pair[0].digest, pair[1].digest)


def _begin(work: Work, revision: Revision, stable: Revision, plan: ShadowPlan) -> dict[str, JSON]:
    states = deal(work, revision, stable, Deal(0, copies=plan.percent)).states
    weights: dict[str, JSON] = dict(weights_at(states, work.model, revision.digest))
    return {"since": int(time.time()), "seen": weights}


def _end(work: Work, pair: tuple[Revision, Revision], since: int) -> dict[str, JSON]:
    """End the copies at every edge, and tell what was seen of them."""
    deal(work, *pair, Deal(0))
    verdict, copies = look(work, open_case(work, _sides(work, pair), since), since)
    return {
        "answers": copies.answers,
        "bad": copies.bad,
        "pairs": copies.pairs,
        "disagreed": copies.disagreed,
        "outcome": verdict.outcome.value,
        "reasons": [f"As a shadow: {reason}" for reason in verdict.reasons],
    }
