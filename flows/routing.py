"""Routing tables of a release: who gets which share, until when, and what is safe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from clouds.serving import State
from fleet.declared import Model
from fleet.errors import OperationFailed, TooLate, TransientError, Unreachable
from fleet.versions import Revision
from flows.house import House
from flows.rules import rules_of
from flows.work import Work
from traffic.edge_client import Edge
from traffic.edge_state import EdgeState
from traffic.edges import Shifted, observe_answering, shift, shift_alone
from traffic.rules import Shadow
from traffic.table import Backend, Regional, RoutingTable, Share

TRIES_IN_TIME = 3
"""How often a table is made for one change of weights, on a machine so busy that it runs out before it is taken."""


@dataclass(frozen=True, slots=True)
class Deal:
    """What a revision gets, in percent: of the requests, and of copies of stable's.

    `elsewhere` has the regions in which its weight is another one. While it bakes it has everything, and stable stays
    the safe one.
    """

    weight: int
    copies: int = 0
    baking: bool = False
    elsewhere: tuple[tuple[str, int], ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the revision answers nothing at all, neither requests nor copies."""
        return not (self.weight or self.copies or any(weight for _, weight in self.elsewhere))


def set_weight(work: Work, revision: Revision, stable: Revision | None, weight: int) -> Shifted:
    """Give a revision `weight` percent of the requests and stable the rest; returns what every edge says afterwards.

    100 is for the revision that was proven: it becomes the safe one. A canary's step is less than that.

    Until the release is promoted the safe weights are all on stable, so the share ends by itself when nobody renews
    it. Without a stable revision, or at 100 percent, the revision is its own safety.
    """
    return deal(work, revision, stable, Deal(weight))


def deal(work: Work, revision: Revision, stable: Revision | None, dealt: Deal) -> Shifted:
    """Put what a revision gets in force at every edge; returns what every edge says afterwards.

    A table that an edge takes so slowly that it has run out meanwhile is made anew; raises TooLate when that happens
    again and again, and Busy once another controller holds the model.
    """
    for _ in range(TRIES_IN_TIME - 1):
        with suppress(TooLate):
            return apply(work.house, _made_by_the_holder(work, revision, stable, dealt))
    return apply(work.house, _made_by_the_holder(work, revision, stable, dealt))


def _made_by_the_holder(work: Work, revision: Revision, stable: Revision | None, dealt: Deal) -> RoutingTable:
    """Return a table of a controller that held the model when the table was there already.

    Whoever takes the model over later waits, at an edge that heard of no newer epoch, for as long as a table lasts. One
    that was made by a controller which had lost the model, paused and woken, would come after that.
    """
    table = table_of(work, revision, stable, dealt)
    work.claim.check(work.house)
    return table


def table_of(work: Work, revision: Revision, stable: Revision | None, dealt: Deal) -> RoutingTable:
    """Return the table that gives a revision what it gets, under the release's epoch and with a version of its own."""
    goes_back = dealt.weight < 100 or dealt.baking
    before = stable if stable is not None and stable.digest != revision.digest and goes_back else None
    shares = _shares(revision, before, dealt.weight)
    safe = (Share(before.digest if before else revision.digest, 100),)
    found = _places_before(work, before) if before else ()
    found += () if dealt.nothing else backends(work.house, revision, work.regions, required=True)
    return RoutingTable(
        model=work.model,
        epoch=work.epoch,
        version=next(work.claim.versions),
        expires_at=time.time() + work.house.settings.table_seconds,
        shares=shares,
        safe=safe,
        backends=found,
        latency_ms=min(slo.latency_ms for slo in work.declared.slo.values()),
        score_range=score_range(work.declared),
        score_tolerance=score_tolerance(work.declared),
        rules=rules_of(work.house.fleet, work.model),
        shadow=Shadow(revision.digest, dealt.copies) if dealt.copies else None,
        regional=tuple(Regional(region, _shares(revision, before, weight)) for region, weight in dealt.elsewhere) if before else (),
    )


def _places_before(work: Work, before: Revision) -> tuple[Backend, ...]:
    """Return where the revision before answers: where the release goes, and in the regions that catch up later.

    Those go on with it until they have a copy of their own. One that is not ready is left out: an edge takes no new place
    while another one is not healthy, and no such region may keep the release from its way.
    """
    ready = tuple(region for region in work.declared.regions if region not in work.regions and _is_ready(work.house, before, region))
    return backends(work.house, before, (*work.regions, *ready), required=False)


def _is_ready(house: House, revision: Revision, region: str) -> bool:
    """Whether a region answers with a revision; one that cannot be asked is not waited for, as requests may have to be taken back."""
    try:
        return house.target(region).status_of(region, revision.model, revision.digest).state is State.READY
    except TransientError:
        return False


def score_range(declared: Model) -> tuple[float, float] | None:
    """Return what a model's scores may be; None where its answers are not judged."""
    return None if declared.predictions is None else (declared.predictions.low, declared.predictions.high)


def score_tolerance(declared: Model) -> float:
    """Return the part of the range by which the scores of two answers may differ and still agree."""
    return 0.0 if declared.predictions is None else declared.predictions.tolerance


def _shares(revision: Revision, before: Revision | None, weight: int) -> tuple[Share, ...]:
    if before is None:
        return (Share(revision.digest, 100),)
    both = (Share(before.digest, 100 - weight), Share(revision.digest, weight))
    return tuple(share for share in both if share.weight)


def apply(house: House, table: RoutingTable) -> Shifted:
    """Shift every edge to a table, all or none when it raises exposure; raises the first edge's error if one failed."""
    return taken(shift(house.edges, table))


def apply_alone(house: House, table: RoutingTable) -> Shifted:
    """Give every edge a table that is safe by itself, each alone; raises the first edge's error when all have been told."""
    return taken(shift_alone(house.edges, table))


def taken(shifted: Shifted) -> Shifted:
    """Return what a shift came to; raises the first edge's error, or Unreachable for one whose Envoy does not report it."""
    if shifted.failures:
        raise shifted.failures[0].error
    if not shifted.complete:
        unsure = [state.edge for state in shifted.states if (seen := state.of(shifted.model)) is None or not seen.confirmed]
        raise Unreachable(f"edge {', '.join(unsure)}", "took the table, but its Envoy does not report it", "Look at the edge's log.")
    return shifted


def backends(house: House, revision: Revision, regions: tuple[str, ...], required: bool) -> tuple[Backend, ...]:
    """Return where a revision answers; raises OperationFailed for a region without it when all are required."""
    found = []
    for region in regions:
        status = house.target(region).status_of(region, revision.model, revision.digest)
        if status.endpoint is not None:
            found.append(Backend(revision.digest, region, status.endpoint.host, status.endpoint.port))
        elif required:
            raise OperationFailed(f"region '{region}'", f"does not run {revision.digest}", "Reconcile deploys it again.")
    return tuple(found)


def stable_is_warm(work: Work, stable: Revision) -> tuple[str, ...]:
    """Return why the way back is not there, region by region; nothing means that it is."""
    missing = []
    for region in work.regions:
        status = work.house.target(region).status_of(region, stable.model, stable.digest)
        if status.state is not State.READY:
            missing.append(f"stable is {status.state.value} in {region}: {status.reason}")
    return tuple(missing)


def weights_at(states: Sequence[EdgeState], model: str, digest: str) -> dict[str, int]:
    """Return the share of a revision that each edge's Envoy reports, in percent; -1 where Envoy does not say."""
    found = {}
    for state in states:
        seen = state.of(model)
        percent = seen.percent_of(digest) if seen else None
        found[state.edge] = -1 if percent is None else round(percent)
    return found


def uncounted(edges: Sequence[Edge], model: str, until: int) -> dict[str, str]:
    """Return which of these edges have not counted their attempts up to a second, and why."""
    observed = observe_answering(edges, model, int(time.time()))
    behind = {name: until - attempts.complete_to for name, attempts in observed.by_edge.items()}
    late = {name: f"is {seconds} s behind with its counting" for name, seconds in behind.items() if seconds > 0}
    return late | {failure.edge: failure.error.reason for failure in observed.failures}
