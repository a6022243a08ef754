"""The canary: live requests in rising shares, and a judge that looks at every tick."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.declared import Step
from fleet.evidence import Attempts, Outcome, Verdict
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows.routing import set_weight, stable_is_warm, weights_at
from flows.showing import Progress, show_progress, show_verdict
from flows.work import Work
from monitoring.judge import CanaryEvidence, judge
from monitoring.share import MeasuredShare, measured_share
from registry.ledger import JSON
from traffic.edges import observe


@dataclass(frozen=True, slots=True)
class Pair:
    """The two revisions between which the requests are split, since a second of Unix time."""

    canary: Revision
    stable: Revision
    since: int


def canary(work: Work, revision: Revision) -> Verdict | None:
    """Walk the declared steps and return the last verdict; None where there is nothing to compare with.

    A first release has no stable revision, a rollback brings back one that was stable, and a release found in
    promoting has had its verdict.
    """
    stable = work.stable
    if stable is None or stable.digest == revision.digest or work.proven is not None or work.phase is ReleasePhase.PROMOTING:
        return None
    work.journal.enter(ReleasePhase.CANARY)
    began = work.journal.effect("canary", lambda: {"since": int(time.time())}, canary=revision.digest, stable=stable.digest)
    pair = Pair(revision, stable, int(str(began["since"])))
    verdict = look(work, pair)
    for position, step in enumerate(work.declared.canary.steps):
        last = position == len(work.declared.canary.steps) - 1
        verdict = walk.with_options(task_run_name=f"canary-at-{step.weight}-percent")(work, pair, step, last)
        if verdict.outcome is Outcome.ROLL_BACK or out_of_time(work, pair):
            break
    show_verdict(work, verdict)
    return verdict


@task(cache_policy=NO_CACHE)
def walk(work: Work, pair: Pair, step: Step, last: bool) -> Verdict:
    """Hold one step until it has lasted and its share is measured; the last one until there is a verdict."""
    logger = get_run_logger()
    while missing := stable_is_warm(work, pair.stable):
        work.check()
        logger.warning("%s waits before %d %%: %s", work.desire.release, step.weight, "; ".join(missing))
        if out_of_time(work, pair):
            return look(work, pair)
        time.sleep(work.house.settings.tick_seconds)
    work.journal.effect(f"weight:{step.weight}", lambda: _switch(work, pair, step.weight), weight=step.weight)
    began = time.time()
    while True:
        work.check()
        states = set_weight(work, pair.canary, pair.stable, step.weight)
        attempts = observe(work.house.edges, work.model, pair.since)
        verdict = judge_now(work, pair, attempts)
        share = measured_share(attempts, pair.canary.digest, int(began) + 1, step.weight)
        record(work, verdict, step.weight, share)
        show_progress(work, Progress(step.weight, weights_at(states, work.model, pair.canary.digest), share, verdict))
        held = time.time() - began >= step.seconds and share.real
        if verdict.outcome is Outcome.ROLL_BACK or out_of_time(work, pair):
            return verdict
        if held and (not last or verdict.outcome is Outcome.PROMOTE):
            return verdict
        time.sleep(work.house.settings.tick_seconds)


def look(work: Work, pair: Pair) -> Verdict:
    """Judge what has been observed so far."""
    return judge_now(work, pair, observe(work.house.edges, work.model, pair.since))


def judge_now(work: Work, pair: Pair, attempts: Attempts) -> Verdict:
    """Hand the evidence to the judge."""
    evidence = CanaryEvidence(pair.canary.digest, pair.stable.digest, attempts, work.regions)
    return judge(work.declared.rollback, evidence, datetime.now(UTC))


def out_of_time(work: Work, pair: Pair) -> bool:
    """Whether the canary has lasted as long as it may."""
    return time.time() - pair.since > work.declared.canary.max_seconds


def record(work: Work, verdict: Verdict, weight: int, share: MeasuredShare) -> None:
    """Write what the judge saw and said into the ledger: counts as integers, figures as decimals in text."""
    regions: list[JSON] = [
        {
            "region": found.region,
            "canary": {"attempts": found.canary_attempts, "bad": found.canary_bad},
            "stable": {"attempts": found.stable_attempts, "bad": found.stable_bad},
            "harm": f"{found.harm:.6g}",
            "upper_bound": f"{found.upper_bound:.6g}",
        }
        for found in verdict.regions
    ]
    work.journal.record(
        "canary.judged",
        {
            "weight": weight,
            "measured_share": f"{share.measured:.4f}",
            "outcome": verdict.outcome.value,
            "reasons": list(verdict.reasons),
            "harm": f"{verdict.harm:.6g}",
            "harm_limit": f"{verdict.harm_limit:.6g}",
            "regions": regions,
        },
    )


def _switch(work: Work, pair: Pair, weight: int) -> dict[str, JSON]:
    states = set_weight(work, pair.canary, pair.stable, weight)
    seen: dict[str, JSON] = dict(weights_at(states, work.model, pair.canary.digest))
    return {"weight": weight, "seen": seen}
