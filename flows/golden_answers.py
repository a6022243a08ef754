"""Golden answers region by region: each region's own server is asked before the revision gets any traffic there."""

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.gate_report import as_payload, refusals
from flows.kept_golden import kept_by
from flows.region_answers import Asked, asked
from flows.retrying import on_transient
from flows.said import said_by, show_all
from flows.shipping import everywhere
from flows.work import Work
from registry.ledger import JSON


def reproduce(work: Work, revision: Revision) -> tuple[str, ...]:
    """Have every region give the golden answers that the release's gates left; returns why it may get no traffic, or nothing.

    A stored revision that is gone back to has none of its own: the way back must be quick, and the schedule asks it.
    """
    if work.declared.gates.golden is None or work.phase is not ReleasePhase.DEPLOYING:
        return ()
    if kept_by(work.house, work.desire.release) is None:
        return ()
    work.check()
    everywhere(ask_in.submit(work, revision, region) for region in work.regions)
    show_all(work)
    said = [result for region in work.regions for result in said_by(work.journal.events(), effects.golden(region))]
    return tuple(map(str, refusals(said)))


@task(cache_policy=NO_CACHE, task_run_name="golden-answers-in-{region}", **on_transient)
def ask_in(work: Work, revision: Revision, region: str) -> None:
    """Ask one region's server and hold its answers against the golden ones."""
    work.journal.effect(effects.golden(region), lambda: _judged(work, revision, region), digest=revision.digest, region=region)


def _judged(work: Work, revision: Revision, region: str) -> dict[str, JSON]:
    declared, kept = work.declared.gates.golden, kept_by(work.house, work.desire.release)
    assert declared is not None
    assert kept is not None
    result = asked(work.house, Asked(region, revision, declared, kept))
    get_run_logger().info("%s: %s: %s", work.desire.release, result.gate, result.reasons[0])
    return {"region": region, "digest": revision.digest, "golden": kept.digest, "results": [as_payload(result)]}
