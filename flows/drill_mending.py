"""Putting a region back after it was lost on purpose, by the drill itself or by whoever finds that its process died."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from clouds.drills import breakable
from clouds.serving import Deployment, RevisionStatus, State
from fleet.errors import Busy, ConvoyError, TransientError, UnknownName
from flows.drill_checks import DrillCheck, Victim
from flows.drill_journal import ENDED, MENDED, DrillJournal, drilled_regions, open_drill
from flows.house import House
from flows.work import Claim, claim
from monitoring.drills import DrillOutcome
from registry.ledger import JSON
from traffic.edges import observe

DRILLER = "failover drill"
"""How the holder of a drill's leases begins."""
ROUTED_SECONDS = 30.0
POLL_SECONDS = 0.2


@dataclass(slots=True)
class Return:
    """When a model was back in the region, in seconds since the mending began: ready, and answering through every edge.

    `began` is Unix time.
    """

    began: float
    back: float | None = None
    routed: float | None = None


@contextmanager
def claims(house: House, models: Sequence[str]) -> Iterator[dict[str, Claim]]:
    """Hold the leases of several models while the block runs; raises Busy, holding none, when one is somebody else's."""
    with ExitStack() as stack:
        held = {}
        for model in models:
            claimed = stack.enter_context(claim(house, model, DRILLER))
            if claimed is None:
                raise Busy(f"model '{model}'", "is held by a release or another drill", "Nothing was done. Try again when that has ended.")
            held[model] = claimed
        yield held


def mend(
    house: House, what: DrillCheck, held: Mapping[str, Claim], now: Callable[[], float], tell: Callable[[str], None]
) -> dict[str, Return]:
    """Start every server of the region again, wait until each is ready with its digest and answers through every edge.

    What cannot be brought back within `deploy_seconds` is left to `reconcile`, and its times stay None.
    """
    began = now()
    found = {victim.revision.model: Return(began) for victim in what.victims}
    drills = breakable(house.target(what.region), what.region)
    for victim in what.victims:
        try:
            drills.mend(victim.deployment)
        except ConvoyError as problem:
            tell(str(problem))
    deadline = began + house.settings.deploy_seconds
    while (missing := [victim for victim in what.victims if found[victim.revision.model].back is None]) and now() < deadline:
        for victim in missing:
            status = house.target(what.region).status_of(what.region, victim.revision.model, victim.revision.digest)
            if status.state is State.READY and status.digest == victim.revision.digest:
                found[victim.revision.model].back = now() - began
                tell(f"{victim.revision.model}: ready with the same digest, {now() - began:.1f} s after the mending began")
                _follow(house, victim, status, held, tell)
        time.sleep(POLL_SECONDS)
    _wait_until_routed(house, what, found, began, now)
    return found


def end_open_drills(house: House, actor: str, tell: Callable[[str], None]) -> list[str]:
    """End the drills whose process died, putting their regions back first; returns what was done, in words.

    A drill that is under way holds the lease of every model of its, and is left alone. No lease is taken: a release that
    runs meanwhile wants its stable revision back too, and no other drill of the region begins before this one has ended.
    """
    done = []
    for region in drilled_regions(house.ledger):
        started = open_drill(house.ledger, region)
        if started is None:
            continue
        digests = _digests(started.payload)
        if _under_way(house, digests):
            tell(f"{region}: a drill is under way")
            continue
        try:
            done.append(_end(house, DrillJournal.of(house.ledger, started, region, actor), digests, tell))
        except Busy:
            tell(f"{region}: its drill was ended by somebody else")
    return done


def _under_way(house: House, models: Iterable[str]) -> bool:
    leases = [house.leases.current(model) for model in models]
    return bool(leases) and all(lease is not None and lease.holder.startswith(DRILLER) for lease in leases)


def _end(house: House, journal: DrillJournal, digests: Mapping[str, str], tell: Callable[[str], None]) -> str:
    states = {model: _start_again(house, Deployment(model, journal.region, digest), tell) for model, digest in digests.items()}
    document: dict[str, JSON] = dict(states)
    journal.record(MENDED, {"states": document})
    how = ", ".join(f"{model} {state}" for model, state in states.items())
    reason = f"its process ended before it did; {journal.actor} put the region back: {how}"
    journal.record(ENDED, {"outcome": DrillOutcome.ABORTED.value, "reasons": [reason], "models": []})
    return f"{journal.drill}: aborted, {reason}"


def _start_again(house: House, deployment: Deployment, tell: Callable[[str], None]) -> str:
    """Mend one revision and return how it is; one that is gone or stays down is left to `reconcile`, which deploys it."""
    if deployment.region not in house.fleet.regions:
        return "no longer declared there"
    target = house.target(deployment.region)
    try:
        breakable(target, deployment.region).mend(deployment)
        deadline = time.monotonic() + house.settings.deploy_seconds
        while (status := target.status_of(deployment.region, deployment.model, deployment.digest)).state is not State.READY:
            if status.state is State.ABSENT or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
    except UnknownName:
        return State.ABSENT.value
    except ConvoyError as problem:
        tell(f"{deployment.model}: {problem}")
        return f"not mended ({problem.reason})"
    return status.state.value


def _follow(house: House, victim: Victim, status: RevisionStatus, held: Mapping[str, Claim], tell: Callable[[str], None]) -> None:
    """Tell the edges when the region came back at another port: somebody else may have taken the old one."""
    if status.endpoint == victim.endpoint:
        return
    from flows.keeping import route_to_stable

    try:
        route_to_stable(house, victim.revision, held[victim.revision.model])
    except ConvoyError as problem:
        tell(f"{problem}; reconcile tries again")


def _wait_until_routed(house: House, what: DrillCheck, found: Mapping[str, Return], began: float, now: Callable[[], float]) -> None:
    """Wait until every edge has counted a good attempt in the region since it was ready again."""
    waiting = [victim for victim in what.victims if found[victim.revision.model].back is not None]
    deadline = now() + ROUTED_SECONDS
    while waiting and now() < deadline:
        for victim in tuple(waiting):
            returned = found[victim.revision.model]
            if _answers(house, victim, math.floor(began + (returned.back or 0.0)) + 1):
                returned.routed = now() - began
                waiting.remove(victim)
        time.sleep(POLL_SECONDS)


def _answers(house: House, victim: Victim, since: int) -> bool:
    try:
        attempts = observe(house.edges, victim.revision.model, since).of(victim.revision.digest)
    except TransientError:
        return False
    good = {count.edge for count in attempts.counts if count.region == victim.region and count.attempts > count.bad}
    return len(good) == len(house.edges)


def _digests(payload: Mapping[str, JSON]) -> dict[str, str]:
    models = payload["models"]
    return {str(model): str(digest) for model, digest in models.items()} if isinstance(models, Mapping) else {}
