"""Putting a region back after it was lost on purpose, by the drill itself or by whoever finds that its process died."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from clouds.drills import breakable
from clouds.serving import Deployment, RevisionStatus, State
from fleet.errors import Busy, ConvoyError, TransientError, UnknownName
from flows.drill_checks import DrillCheck, Victim
from flows.drill_journal import ENDED, MENDED, DrillJournal, drilled_regions, open_drill
from flows.house import House
from flows.work import Claim, claim
from monitoring.drills import DrillOutcome
from registry.leases import Lease
from registry.ledger import JSON, Event
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


@dataclass(slots=True)
class DeadDrill:
    """A drill whose process ended before it did: what it broke, and how each model is since it was mended.

    `wait` names the models that are coming back; while one could not be mended at all (`left`), the drill stays open.
    """

    journal: DrillJournal
    digests: Mapping[str, str]
    states: dict[str, str] = field(default_factory=dict)
    wait: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)

    @property
    def region(self) -> str:
        """The region that it broke."""
        return self.journal.region

    def deployment(self, model: str) -> Deployment:
        """Return what it broke of a model."""
        return Deployment(model, self.region, self.digests[model])

    def leave(self, model: str, problem: TransientError) -> None:
        """Note that a model could not be asked for or mended now: somebody tries again."""
        self.wait.discard(model)
        self.left.add(model)
        self.states[model] = f"not mended yet ({problem.reason})"


def end_open_drills(house: House, actor: str, tell: Callable[[str], None]) -> list[str]:
    """End the drills whose process died, putting their regions back first; returns what was done, in words.

    All regions are mended first and waited for together. A drill that is under way holds the lease of every model of its,
    and is left alone. No lease is taken: a release that runs meanwhile wants its stable revision back too, and no other
    drill of the region begins before this one has ended.
    """
    dead = [found for region in drilled_regions(house.ledger) if (found := _dead(house, region, actor, tell)) is not None]
    for drill in dead:
        _start_again(house, drill, tell)
    _wait_until_back(house, dead)
    return [done for drill in dead if (done := _end(drill, tell))]


def held_by_drill(leases: Iterable[Lease | None]) -> bool:
    """Say whether the leases of a drill's models, as they are now, are all a drill's: then it is under way."""
    found = list(leases)
    return bool(found) and all(lease is not None and lease.holder.startswith(DRILLER) for lease in found)


def broken_by(started: Event) -> dict[str, str]:
    """Return what a drill's intent says that it breaks: digests by model."""
    models = started.payload["models"]
    return {str(model): str(digest) for model, digest in models.items()} if isinstance(models, Mapping) else {}


def _dead(house: House, region: str, actor: str, tell: Callable[[str], None]) -> DeadDrill | None:
    started = open_drill(house.ledger, region)
    if started is None:
        return None
    digests = broken_by(started)
    if held_by_drill(house.leases.current(model) for model in digests):
        tell(f"{region}: a drill is under way")
        return None
    return DeadDrill(DrillJournal.of(house.ledger, started, region, actor), digests)


def _start_again(house: House, drill: DeadDrill, tell: Callable[[str], None]) -> None:
    """Mend each of a drill's models; one that is gone is left to `reconcile`, which deploys it."""
    for model in drill.digests:
        if drill.region not in house.fleet.regions:
            drill.states[model] = "no longer declared there"
            continue
        try:
            breakable(house.target(drill.region), drill.region).mend(drill.deployment(model))
            drill.wait.add(model)
        except UnknownName:
            drill.states[model] = State.ABSENT.value
        except TransientError as problem:
            tell(f"{model}: {problem}")
            drill.leave(model, problem)
        except ConvoyError as problem:
            tell(f"{model}: {problem}")
            drill.states[model] = f"not mended ({problem.reason})"


def _wait_until_back(house: House, dead: Sequence[DeadDrill]) -> None:
    """Wait once for all that was mended, `deploy_seconds` at most; one that fails or is gone is waited for no longer."""
    deadline = time.monotonic() + house.settings.deploy_seconds
    while True:
        for drill in dead:
            for model in tuple(drill.wait):
                _look_at(house, drill, model)
        if not any(drill.wait for drill in dead) or time.monotonic() > deadline:
            return
        time.sleep(POLL_SECONDS)


def _look_at(house: House, drill: DeadDrill, model: str) -> None:
    try:
        status = house.target(drill.region).status_of(drill.region, model, drill.digests[model])
    except TransientError as problem:
        drill.leave(model, problem)
        return
    drill.states[model] = status.state.value
    if status.state is not State.STARTING:
        drill.wait.discard(model)


def _end(drill: DeadDrill, tell: Callable[[str], None]) -> str:
    """Write a drill's end and return it in words, empty for one that stays open or that somebody else has ended."""
    how = ", ".join(f"{model} {state}" for model, state in drill.states.items())
    if drill.left:
        tell(f"{drill.region}: its drill is not ended yet: {how}")
        return ""
    journal, document = drill.journal, dict[str, JSON](drill.states)
    reason = f"its process ended before it did; {journal.actor} put the region back: {how}"
    try:
        journal.record(MENDED, {"states": document})
        journal.record(ENDED, {"outcome": DrillOutcome.ABORTED.value, "reasons": [reason], "models": []})
    except Busy:
        tell(f"{drill.region}: its drill was ended by somebody else")
        return ""
    return f"{journal.drill}: aborted, {reason}"


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
    """Wait until the edge of the drill's callers has counted a good attempt in the region since it was ready again."""
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
    return house.edge_near(victim.region).name in good
