"""How a release ends: promoted, rolled back, rejected, superseded or failed."""

from __future__ import annotations

from functools import partial

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fleet.commands import Command
from fleet.errors import ConvoyError, OperationFailed, TransientError, UnknownName, Unreachable
from fleet.phases import ReleasePhase
from fleet.versions import Revision
from flows import effects
from flows.desires import CHAMPION, Why, model_stream, release_stream
from flows.desk import close_desk
from flows.journal import INTERRUPTED
from flows.retrying import on_transient
from flows.routing import set_weight, weights_at
from flows.shipping import point, retire
from flows.showing import show_ending
from flows.withdrawing import count, take_back, wait_until_drained
from flows.work import Work
from registry.ledger import JSON, NewEvent

TAKEN_UP_IN_CANARY = 5
TAKEN_UP = 30
TAKEN = "release.taken up"
UNKNOWN = "the weight of the revision at the edges is unknown; reconcile puts them on stable"
WITH_TRAFFIC = (ReleasePhase.SHADOWING, ReleasePhase.CANARY, ReleasePhase.BAKING)


@task(cache_policy=NO_CACHE, **on_transient)
def promote(work: Work, revision: Revision) -> ReleasePhase:
    """Give the revision all traffic, make it the stable one, name it champion, and retire the one before."""
    work.journal.enter(ReleasePhase.PROMOTING)
    before = work.stable
    work.claim.check(work.house)
    work.journal.effect(effects.weight(100), lambda: _weigh(work, revision, before, 100), weight=100)
    work.journal.effect(effects.STABLE, lambda: _make_stable(work, revision))
    for region in work.regions:
        work.journal.effect(effects.point(region), partial(_point, work, revision, region), digest=revision.digest, region=region)
    left = name_champion(work, revision)
    if before is not None and before.digest != revision.digest:
        if late := wait_until_drained(work, work.house.edges):
            told = "; ".join(f"edge {edge} {why}" for edge, why in late.items())
            raise Unreachable(f"edge {', '.join(late)}", f"has not counted its attempts: {told}", "Look at its agent's log.")
        work.journal.effect(effects.COUNT, lambda: count(work, revision))
        left += retire(work, before)
    says = f"version {revision.version} serves all traffic in {', '.join(work.regions)}"
    return end(work, ReleasePhase.PROMOTED, says, *left)


@task(cache_policy=NO_CACHE, **on_transient)
def roll_back(work: Work, *reasons: str) -> ReleasePhase:
    """Put every edge on the safe weights, read them back, count what the canary did, and stop it.

    Where it cannot be known that an edge gives the revision nothing, the release fails and its processes are kept.
    """
    work.journal.enter(ReleasePhase.ROLLING_BACK, *reasons)
    why = reasons or entered_because(work)
    revision, stable = work.revision, work.stable
    left: tuple[str, ...] = ()
    if revision is not None and (stable is None or stable.digest != revision.digest):
        if stable is not None:
            try:
                left = take_back(work, revision, stable)
            except OperationFailed as problem:
                return end(work, ReleasePhase.FAILED, *why, str(problem), UNKNOWN)
        left += retire(work, revision)
    return end(work, ReleasePhase.ROLLED_BACK, *why, *left)


def abort(work: Work, why: str) -> ReleasePhase:
    """End a release because an operator wants it, or took back the approval: as rolled back, with who and why, whatever it had begun."""
    _obeyed(work, Command.ABORT)
    _obeyed(work, Command.REVOKE)
    return roll_back(work, why)


def deny(work: Work, why: str) -> ReleasePhase:
    """End a release that a person did not let have traffic: what waits warm is stopped."""
    _obeyed(work, Command.DENY)
    if work.phase in WITH_TRAFFIC:
        # Only where fleet.yaml asked for no approval any more after somebody had said no
        return roll_back(work, why)
    return end(work, ReleasePhase.REJECTED, why, *_stop(work))


def reject(work: Work, refusals: tuple[str, ...]) -> ReleasePhase:
    """End a release that a gate refused, before it got any traffic: what waits warm is stopped."""
    left = _stop(work) if work.phase is ReleasePhase.DEPLOYING else ()
    return end(work, ReleasePhase.REJECTED, *refusals, *left)


@task(cache_policy=NO_CACHE, **on_transient)
def supersede(work: Work, why: str) -> ReleasePhase:
    """Take the release off the stage for a newer version: no traffic at any edge, nothing left running."""
    revision, stable = work.revision, work.stable
    left: tuple[str, ...] = ()
    if revision is not None and (stable is None or stable.digest != revision.digest):
        if stable is not None and work.phase in WITH_TRAFFIC:
            try:
                left = take_back(work, revision, stable)
            except OperationFailed as problem:
                return end(work, ReleasePhase.FAILED, why, str(problem), UNKNOWN)
        left += retire(work, revision)
    return end(work, ReleasePhase.SUPERSEDED, why, *left)


def fail(work: Work, problem: ConvoyError) -> ReleasePhase:
    """End a release that cannot go on: traffic that it had goes back first, then a human is told.

    One that has become stable already keeps its traffic: what is missing of its promotion, reconcile repairs. One
    whose way back failed keeps its processes, for an edge may still route to them.
    """
    get_run_logger().error("%s: %s", work.desire.release, problem)
    promoting, moved = work.phase is ReleasePhase.PROMOTING, work.journal.completed(effects.STABLE)
    if work.phase in WITH_TRAFFIC or (promoting and work.stable is not None and not moved):
        return roll_back(work, str(problem))
    revision, stable = work.revision, work.stable
    left: tuple[str, ...] = ()
    if work.phase is ReleasePhase.ROLLING_BACK:
        left = (UNKNOWN,)
    elif revision is not None and not promoting and (stable is None or stable.digest != revision.digest):
        left = retire(work, revision)
    return end(work, ReleasePhase.FAILED, str(problem), *left)


def taken_up_too_often(work: Work) -> str:
    """Record that a controller takes up the release; returns why it must end, once that was too often.

    Each time a canary is taken up it gets traffic again, so a controller that dies of it must not do so for ever; and
    a release that never ends would keep every newer version waiting. One that waits for what is away, and recorded so
    (`release.interrupted`), is waited for as long as that takes.
    """
    work.journal.record(TAKEN, {"phase": work.phase.value})
    told = [event for event in work.journal.events() if event.type in (TAKEN, INTERRUPTED)]
    followers = [event.type for event in told[1:]] + [""]
    phases = [event.payload["phase"] for event, after in zip(told, followers, strict=True) if event.type == TAKEN and after != INTERRUPTED]
    during = sum(phase in WITH_TRAFFIC for phase in phases)
    if work.phase in WITH_TRAFFIC and during > TAKEN_UP_IN_CANARY:
        return f"taken up {during} times during the canary and never brought to an end"
    return f"taken up {len(phases)} times and never brought to an end" if len(phases) > TAKEN_UP else ""


def end(work: Work, phase: ReleasePhase, *reasons: str) -> ReleasePhase:
    """Enter a terminal phase and show it; nobody is asked for its approval any more."""
    entered = work.house.ledger.stream(release_stream(work.desire.release), "phase.entered")
    if any(event.payload["phase"] == ReleasePhase.AWAITING_APPROVAL.value for event in entered):
        close_desk(work.desire)
    work.journal.enter(phase, *reasons)
    get_run_logger().info("%s: %s: %s", work.desire.release, phase, "; ".join(reasons))
    show_ending(work, phase, reasons)
    return phase


def entered_because(work: Work) -> tuple[str, ...]:
    """Return the reasons with which the present phase was entered."""
    entered = [event for event in work.journal.events() if event.type == "phase.entered"]
    reasons = entered[-1].payload.get("reasons", []) if entered else []
    return tuple(str(reason) for reason in reasons) if isinstance(reasons, list) else ()


def _stop(work: Work) -> tuple[str, ...]:
    """Stop what waits warm, unless it is what serves; returns, in words, where it could not be done."""
    revision, stable = work.revision, work.stable
    return retire(work, revision) if revision is not None and (stable is None or stable.digest != revision.digest) else ()


def _obeyed(work: Work, command: Command) -> None:
    for order in work.orders.pending:
        if order.command is command:
            work.obeyed(order)


def _weigh(work: Work, revision: Revision, stable: Revision | None, weight: int) -> dict[str, JSON]:
    shifted = set_weight(work, revision, stable, weight)
    seen = weights_at(shifted.states, work.model, revision.digest)
    wrong = {edge: found for edge, found in seen.items() if found != weight}
    if wrong:
        raise OperationFailed(
            f"edge {', '.join(wrong)}", f"does not have {revision.digest} at {weight} % but at {wrong}", "Look at its agent's log."
        )
    answer: dict[str, JSON] = dict(seen)
    edges: list[JSON] = [state.edge for state in shifted.states]
    return {"weight": weight, "seen": answer, "edges": edges, "spread_seconds": f"{shifted.spread:.3f}"}


def _make_stable(work: Work, revision: Revision) -> dict[str, JSON]:
    last = work.house.ledger.last(model_stream(work.model), "stable.set")
    if last is None or last.payload["release"] != work.desire.release:
        event = NewEvent(
            model_stream(work.model),
            "stable.set",
            {"version": revision.version, "digest": revision.digest, "release": work.desire.release},
            work.journal.actor,
            epoch=work.epoch,
            model=work.model,
        )
        work.house.ledger.append(event)
    return {"digest": revision.digest}


def _point(work: Work, revision: Revision, region: str) -> dict[str, JSON]:
    """Write into the region's own store which revision it serves, so that it needs nobody else to know."""
    ref = point(work.house, revision, region, work.epoch)
    return {"region": region, "digest": ref.digest, "epoch": ref.epoch, "sequence": ref.sequence}


def name_champion(work: Work, revision: Revision) -> tuple[str, ...]:
    """Let the alias champion name the promoted version; returns, in words, what is left to do for a rollback.

    A rollback needs no MLflow: with MLflow away it ends all the same, and reconcile names the champion. It serves too
    when MLflow has lost its version, and then no alias can name it. Any other release came from MLflow moments ago and
    waits for it.
    """
    try:
        work.journal.effect(effects.CHAMPION, lambda: _name_champion(work, revision), version=revision.version)
    except TransientError as problem:
        if work.desire.why is not Why.ROLLBACK:
            raise
        get_run_logger().warning("%s: %s", work.desire.release, problem)
        return (f"alias {CHAMPION} is not set to {revision.version} yet, reconcile does it when it can: {problem.reason}",)
    except UnknownName as problem:
        if work.desire.why is not Why.ROLLBACK:
            raise
        get_run_logger().warning("%s: %s", work.desire.release, problem)
        return (f"alias {CHAMPION} cannot be set to {revision.version}: {problem.subject} {problem.reason}",)
    return ()


def _name_champion(work: Work, revision: Revision) -> dict[str, JSON]:
    work.house.models.set_alias(work.model, CHAMPION, revision.version)
    return {"version": revision.version}
