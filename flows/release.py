"""The release: from a wanted version to every region, on evidence."""

from __future__ import annotations

from contextlib import suppress

from prefect import flow, get_run_logger

from fleet.errors import ConvoyError, LedgerBroken, OperationFailed, TransientError
from fleet.evidence import Outcome
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows.attesting import attest_approval, attest_release
from flows.baking import bake
from flows.canary import canary
from flows.containing import try_container
from flows.endings import abort, deny, fail, promote, reject, roll_back, supersede, taken_up_too_often
from flows.fleet_kept import record_fleet
from flows.gating import resolve, validate
from flows.golden_answers import reproduce
from flows.house import House
from flows.keeping import restore_stable
from flows.measuring import measure
from flows.obeying import may_have_traffic, may_promote
from flows.optimising import optimise
from flows.parking import to_tell
from flows.shadowing import shadow
from flows.shipping import deploy, package, planned, replicate, take_proven
from flows.work import AbortedError, DeniedError, SupersededError, Work, claim, drop_scratch


@flow(name="release", flow_run_name="release-{model}", description="Bring the wanted version of a model to every region, on evidence.")
def release(model: str) -> str:
    """Finish what is unfinished for a model, oldest first; leave at once when another run is at it.

    Returns one line that says how it ended.
    """
    house = House.open()
    house.model(model)
    house.ledger.verify()
    with claim(house, model, "release flow") as claimed:
        if claimed is None:
            return f"{model}: another run holds the lease"
        ended = []
        while waiting := to_tell(house, model):
            phase = tell(Work.of(house, waiting[0], claimed))
            ended.append(f"{waiting[0].release} (version {waiting[0].version}) {phase.value}")
        drop_scratch(house, model)
        restored = restore_stable(house, model, claimed)
        return "; ".join(ended + restored) or f"{model}: nothing to do"


def tell(work: Work) -> ReleasePhase:
    """Tell one release's story from wherever it stands to its end; returns the phase it ended in."""
    get_run_logger().info("%s: version %s, found in phase '%s'", work.desire.release, work.desire.version, work.phase)
    try:
        if why := taken_up_too_often(work):
            return fail(work, OperationFailed(work.desire.release, why))
        if work.phase is ReleasePhase.ROLLING_BACK:
            return roll_back(work)
        if work.phase is ReleasePhase.PROMOTING and work.revision is not None:
            return promote(work, work.revision)
        work.check()
        record_fleet(work)
        revision = work.revision
        if revision is None and work.proven is not None:
            revision = take_proven(work, work.proven)
        if revision is None:
            source = resolve(work)
            if refusals := validate(work, source) or optimise(work, source):
                return reject(work, refusals)
            revision = package(work, source)
        if refusals := try_container(work, revision) or measure(work, revision):
            return reject(work, refusals)
        if refusals := planned(work, revision):
            return reject(work, refusals)
        attest_release(work, revision)
        replicate(work, revision)
        deploy(work, revision)
        if refusals := reproduce(work, revision):
            return reject(work, refusals)
        if not (may_have_traffic(work, revision) and attest_approval(work, revision)):
            return work.phase
        if reasons := shadow(work, revision):
            return roll_back(work, *reasons)
        while not (reasons := tried(work, revision)):
            if may_promote(work):
                return promote(work, revision)
        return roll_back(work, *reasons)
    except SupersededError as newer:
        return supersede(work, newer.reason)
    except AbortedError as order:
        return abort(work, order.reason)
    except DeniedError as no:
        return deny(work, no.reason)
    except LedgerBroken:
        raise
    except TransientError as problem:
        # Nothing is lost: the release stays open, and reconcile tells the story again.
        with suppress(ConvoyError):
            work.journal.interrupted(problem)
        raise
    except ConvoyError as problem:
        return fail(work, problem)


def tried(work: Work, revision: Revision) -> tuple[str, ...]:
    """Have a revision walk its canary and bake, as declared; returns why it must go back, or nothing."""
    verdict = canary(work, revision) if work.walks else None
    if verdict is not None and verdict.outcome is not Outcome.PROMOTE:
        return verdict.reasons
    return bake(work, revision)
