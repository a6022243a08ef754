"""Reconcile: every minute, whatever was missed is started; events only make it quicker."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment

from fleet.errors import ConvoyError, LedgerBroken, OperationFailed, TransientError, UnknownName, Unreachable
from flows.anchoring import anchor
from flows.desires import CANDIDATE, observe_candidate, unfinished
from flows.desk import open_desk
from flows.drill_mending import end_open_drills
from flows.house import House
from flows.lagging import lagging
from flows.late_runs import drop_late_runs
from flows.left_behind import left_behind
from flows.observing import observe_models
from flows.parking import answerable_until, parked
from flows.plan import plan_model
from flows.plan_stored import keep
from flows.plan_values import Of, Plan
from flows.wanting import wanted_of_all
from flows.work import release_revision

RELEASE = "release/release"


@flow(name="reconcile", description="Start whatever was missed: a moved alias, an unfinished release, a region that is behind.")
def reconcile() -> list[str]:
    """Look at every declared model once and start `release` where it is needed; returns what was started and why.

    One model's trouble does not keep the others: all are looked at, then the first error is raised.
    """
    drop_late_runs()
    house = House.open()
    house.ledger.verify()
    # Before anything acts: a ledger that is not what the stores say of it must not be acted on
    unsigned = anchor(house)
    logger = get_run_logger()
    started: list[str] = []
    problems = [unsigned] if unsigned is not None else []
    for model in house.fleet.models:
        try:
            if problem := look_at_alias(house, model):
                problems.append(problem)
            ask_again_for_approval(house, model)
            for late in lagging(house, model, datetime.now(UTC)):
                logger.error("%s: %s", model, late)
        except ConvoyError as problem:
            logger.error("%s: %s; looked at again in a minute", model, problem)
            problems.append(problem)
    for model, plan in plans(house).items():
        try:
            problems += unknown(plan)
            if plan.actions and house.leases.current(model) is None:
                run_deployment(RELEASE, parameters={"model": model}, timeout=0, as_subflow=False)
                started.append(f"{model}: {'; '.join(plan.reasons)}")
                logger.info("started a release of %s: %s", model, "; ".join(plan.reasons))
        except ConvoyError as problem:
            logger.error("%s: %s; looked at again in a minute", model, problem)
            problems.append(problem)
    # After the models: what is started there must not wait until a region is back
    started += end_open_drills(house, "reconcile flow", logger.info)
    if problems:
        raise problems[0]
    return started


def plans(house: House) -> dict[str, Plan]:
    """Return what is to be done about each model, as `convoy plan` shows it; what was seen for that is kept."""
    wanted = wanted_of_all(house, house.fleet.models)
    seen = replace(observe_models(house, wanted), left=left_behind(house))
    for left in seen.left:
        get_run_logger().warning("left behind: %s", left)
    try:
        keep(house.home, seen)
    except OSError as problem:
        # What people are shown must not decide what is started
        get_run_logger().warning("what was seen cannot be kept for `convoy plan --stored`: %s", problem)
    return {model.model: plan_model(wanted[model.model], model) for model in seen.models}


def unknown(plan: Plan) -> list[ConvoyError]:
    """Return what is forbidden or was not seen of regions and edges, as errors; an alias that MLflow does not tell is only logged."""
    logger = get_run_logger()
    for doubt in plan.doubts:
        logger.warning("%s, %s", doubt.model, doubt)
    told = plan.doubts_of(Of.REGION, Of.EDGE, Of.FORBIDDEN)
    return [(OperationFailed if doubt.lasting else Unreachable)(f"{doubt.model}, {doubt.where}", doubt.why) for doubt in told]


def ask_again_for_approval(house: House, model: str) -> None:
    """Have what waits for a person on the desk: the run that asked may have failed, or Prefect was away."""
    for desire in unfinished(house.ledger, model):
        revision, until = release_revision(house, desire), answerable_until(house, desire)
        if revision is not None and until is not None and parked(house, desire):
            open_desk(desire, revision.digest, until)


def look_at_alias(house: House, model: str) -> ConvoyError | None:
    """Open a desire where the alias has moved; returns what a human must look at, for it does not pass by itself.

    What the ledger knows is acted on all the same: a rollback under way does not need MLflow. Raises LedgerBroken.
    """
    try:
        observe_candidate(
            house.ledger,
            model,
            lambda: candidate_of(house, model),
            "reconcile flow",
            settle=lambda version: house.models.set_alias(model, CANDIDATE, version),
        )
    except TransientError as problem:
        get_run_logger().warning("%s: %s; the alias is looked at again in a minute", model, problem)
    except LedgerBroken:
        raise
    except ConvoyError as problem:
        get_run_logger().error("%s: alias %s: %s", model, CANDIDATE, problem)
        return problem
    return None


def candidate_of(house: House, model: str) -> str | None:
    """Return where the alias `candidate` points; None also for a model that MLflow does not have yet."""
    try:
        return house.models.alias(model, CANDIDATE)
    except UnknownName:
        return None
