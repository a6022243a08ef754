"""Keeping the stable revision where it belongs: in every region and at every edge."""

from __future__ import annotations

import time

from prefect import get_run_logger

from fleet.errors import ConvoyError
from fleet.versions import Revision
from flows.behind import edges_behind, routable_at
from flows.catching_up import catch_up
from flows.desires import CHAMPION
from flows.house import House
from flows.observing import observe_model
from flows.plan import may_be_asked, plan_model
from flows.plan_values import Verb
from flows.routing import apply_alone, backends, score_range, score_tolerance
from flows.rules import rules_of
from flows.shipping import point, remember, start_and_wait
from flows.wanting import wanted_of
from flows.work import Claim
from registry.referrers import copy_referrers
from traffic.table import Backend, RoutingTable, Share


def restore_stable(house: House, model: str, claim: Claim) -> list[str]:
    """Bring regions, edges and the alias back to the stable revision, as the planner says; returns what was done, in words.

    Each region is tried; the edges get those that are ready, and only once all have them is stopped what nobody wants.
    Raises the first error when all else is done.
    """
    wanted = wanted_of(house, model)
    plan = plan_model(wanted, observe_model(house, wanted))
    stable = wanted.stable
    if stable is None or not plan.actions:
        return []
    regions = dict.fromkeys(action.where for action in plan.of(Verb.COPY, Verb.START, Verb.POINT))
    problems = [problem for region in regions if (problem := restore_region(house, stable, region, claim)) is not None]
    if plan.of(Verb.START, Verb.ROUTE, Verb.RETIRE):
        problems += give_all_to_stable(house, stable, claim)
    if any(action.where == CHAMPION for action in plan.of(Verb.ALIAS)):
        claim.check(house)
        house.models.set_alias(model, CHAMPION, stable.version)
    if problems:
        raise problems[0]
    return [f"{model}: stable restored ({'; '.join(plan.reasons)})"]


def restore_region(house: House, stable: Revision, region: str, claim: Claim) -> ConvoyError | None:
    """Have the stable revision in one region; returns what stood in the way."""
    try:
        claim.check(house)
        catch_up(house, stable, region, claim)
        remember(house.region_store(region), stable)
        start_and_wait(house, stable, region)
        point(house, stable, region, claim.lease.epoch)
    except ConvoyError as problem:
        get_run_logger().error("%s in %s: %s", stable.model, region, problem)
        return problem
    try:
        # Behind everything that requests need
        copy_referrers(stable.digest, house.origin, house.region_store(region))
    except ConvoyError as problem:
        get_run_logger().warning("%s in %s: its statements were not copied: %s", stable.model, region, problem)
    return None


def give_all_to_stable(house: House, stable: Revision, claim: Claim) -> list[ConvoyError]:
    """Have every edge give everything to the stable revision, then stop what else runs; returns what stood in the way.

    While an edge may still route to another revision, its processes stay.
    """
    try:
        if edges_behind(house, stable):
            route_to_stable(house, stable, claim)
    except ConvoyError as problem:
        get_run_logger().error("%s: %s", stable.model, problem)
        return [problem]
    wanted = wanted_of(house, stable.model)
    seen = observe_model(house, wanted)
    problems: list[ConvoyError] = []
    for action in plan_model(wanted, seen).of(Verb.RETIRE):
        try:
            if not may_be_asked(seen, action.what):
                claim.check(house)
                house.target(action.where).retire(action.where, stable.model, action.what)
        except ConvoyError as problem:
            get_run_logger().error("%s in %s: %s", stable.model, action.where, problem)
            problems.append(problem)
    return problems


def route_to_stable(house: House, stable: Revision, claim: Claim) -> None:
    """Give the stable revision everything at every edge, in the regions where it is ready; in all that have it when none is.

    An edge takes no new place while another one in the table is not healthy, so a region that is away would keep one
    that has moved from its requests; one that cannot be asked, and answers, stays. Each edge is told by itself: one that
    is away keeps no other from it, and its error is raised at the end.
    """
    everything = (Share(stable.digest, 100),)
    declared = house.model(stable.model)
    places = tuple(Backend(stable.digest, region, at.host, at.port) for region, at in routable_at(house, stable).items())
    table = RoutingTable(
        model=stable.model,
        epoch=claim.lease.epoch,
        version=next(claim.versions),
        expires_at=time.time() + house.settings.table_seconds,
        shares=everything,
        safe=everything,
        backends=places or backends(house, stable, declared.regions, required=False),
        latency_ms=min(slo.latency_ms for slo in declared.slo.values()),
        score_range=score_range(declared),
        score_tolerance=score_tolerance(declared),
        rules=rules_of(house.fleet, stable.model),
    )
    apply_alone(house, table)
