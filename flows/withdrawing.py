"""Taking a revision's requests away at every edge, and knowing that it is so, be an edge dead, hung or out of reach."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from prefect import get_run_logger

from fleet.errors import OperationFailed
from fleet.evidence import Outcome
from fleet.versions import Revision
from flows import effects
from flows.observed import JUDGED
from flows.routing import Deal, table_of, uncounted
from flows.work import Work
from registry.ledger import JSON
from traffic.clusters import Timeouts
from traffic.edge_client import Edge
from traffic.edge_state import EdgeState
from traffic.edges import Shifted, make_safe, observe_answering, shift_alone
from traffic.witness import Testimony, ask_envoy

CLOCKS_APART = 2.0
"""A table is held to have expired this much later: edges and controllers have clocks of their own."""
ASKED_SECONDS = 5.0
"""For how long the Envoy of an edge that does not answer is asked, once the edge's tables have expired."""
COUNTING_SECONDS = 15.0
POLL_SECONDS = 0.25
PROMISED_MS = 1000
"""Between a verdict and the last answer by the revision; what takes longer is told to people."""


@dataclass(frozen=True, slots=True)
class Try:
    """One try at some edges: why each of those that were not read back with nothing was not, and how far apart the others switched."""

    open: Mapping[str, str]
    spread: float


def take_back(work: Work, revision: Revision, stable: Revision) -> tuple[str, ...]:
    """Give all requests of a revision back to stable, wait until nothing is under way, and count what it did.

    Returns, in words, what had to be known otherwise than from an edge's own agent, and what could not be counted.
    """
    taken = work.journal.effect(effects.weight(0), partial(withdraw, work, revision, stable), weight=0)
    unheard = taken.get("unheard")
    told = {str(edge): str(why) for edge, why in unheard.items()} if isinstance(unheard, Mapping) else {}
    late = wait_until_drained(work, tuple(edge for edge in work.house.edges if edge.name not in told))
    counted = work.journal.effect(effects.COUNT, lambda: count(work, revision, decided_ms(work)))
    slow = counted.get("last_answer_ms")
    return (
        *((f"the revision's last answer came {slow:,} ms after that was decided",) if isinstance(slow, int) and slow > PROMISED_MS else ()),
        *(f"edge {edge} {why}" for edge, why in told.items()),
        *(f"what the revision did last at edge {edge} was not counted: the edge {why}" for edge, why in late.items()),
    )


def withdraw(work: Work, revision: Revision, stable: Revision) -> dict[str, JSON]:
    """Put every edge on the safe weights, at once and alone, then on a table without the revision; return what was read back.

    An edge that does not answer counts as 0 only once every table that it may hold has expired and its Envoy was read
    with 0, or is dead; how that is known stands under `unheard`. Raises OperationFailed for one that still gives the
    revision requests then, or whose weight nobody knows.
    """
    expired = time.monotonic() + work.house.settings.table_seconds + CLOCKS_APART
    edges = {edge.name: edge for edge in work.house.edges}
    unheard: dict[str, str] = {}
    first = tried = take_away(work, revision, stable, tuple(edges.values()))
    if first.open:
        get_run_logger().warning("%s: %s", work.desire.release, "; ".join(f"edge {name} {why}" for name, why in first.open.items()))
    while tried.open:
        work.claim.check(work.house)
        if time.monotonic() >= expired:
            said = {name: ask_envoy(edges[name], work.model, revision.digest) for name in tried.open}
            gone = {
                name: f"{tried.open[name]}; its tables have expired and {found.how}" for name, found in said.items() if found.percent == 0
            }
            if len(gone) < len(said) and time.monotonic() >= expired + ASKED_SECONDS:
                raise unsure(tried.open, {name: found for name, found in said.items() if name not in gone})
            unheard |= gone
        time.sleep(POLL_SECONDS)
        tried = take_away(work, revision, stable, tuple(edges[name] for name in tried.open if name not in unheard))
    seen: dict[str, JSON] = dict.fromkeys(edges, 0)
    told: dict[str, JSON] = dict(unheard)
    answered: list[JSON] = [name for name in edges if name not in unheard]
    return {"weight": 0, "seen": seen, "edges": answered, "unheard": told, "spread_seconds": f"{first.spread:.3f}"}


def take_away(work: Work, revision: Revision, stable: Revision, edges: Sequence[Edge]) -> Try:
    """Put edges on the safe weights and then on a table without the revision, each alone, and read back what they have.

    The safe weights need nothing to be known first, so they go before the table is made. An edge that has the revision
    at 0 by them and does not take the table is left to reconcile.
    """
    safe = make_safe(edges, work.model, work.epoch)
    answering = {state.edge for state in safe.states}
    there = [edge for edge in edges if edge.name in answering]
    tabled = shift_alone(there, table_of(work, revision, stable, Deal(0))) if there else Shifted(work.model, (), ())
    found = {state.edge: share_at(state, revision) for state in (*safe.states, *tabled.states)}
    problems = {failure.edge: failure.error.reason for failure in (*safe.failures, *tabled.failures)}
    still = {edge.name: found.get(edge.name) for edge in edges if found.get(edge.name) != 0}
    return Try({name: _why(percent, problems.get(name)) for name, percent in still.items()}, safe.spread)


def share_at(state: EdgeState, revision: Revision) -> float | None:
    """Return a revision's share in percent as an edge's Envoy reports it, 0 where the edge has no table; None when it is silent."""
    seen = state.of(revision.model)
    return 0.0 if seen is None else seen.percent_of(revision.digest)


def wait_until_drained(work: Work, edges: Sequence[Edge]) -> dict[str, str]:
    """Wait until whatever was under way at the last switch has ended and these edges have counted it.

    A request may take as long as the route's timeout; only then is nothing in flight cut off by stopping a process.
    Returns which edges have not counted it in time, and why.
    """
    longest = max(slo.latency_ms for slo in work.declared.slo.values())
    target = int(time.time() + Timeouts.of(longest).whole / 1000) + 1
    ended = time.monotonic() + target - time.time()
    while (late := uncounted(edges, work.model, target)) or time.monotonic() < ended:
        if time.monotonic() > ended + COUNTING_SECONDS:
            break
        time.sleep(POLL_SECONDS)
    return late


def decided_ms(work: Work) -> int:
    """Return when it was decided to take the requests back (Unix time in milliseconds): by a verdict, else as they began to be."""
    events = work.journal.events()
    taken = next(event.at for event in events if event.type == "effect.intended" and event.effect_key == effects.weight(0))
    judged = [event for event in events if event.type == JUDGED and event.at <= taken]
    verdict = judged[-1] if judged and judged[-1].payload["outcome"] == Outcome.ROLL_BACK else None
    return int((verdict.at if verdict else taken).timestamp() * 1000)


def count(work: Work, revision: Revision, decided: int | None = None) -> dict[str, JSON]:
    """Return what a revision did in each region since callers first met it, at every edge that can be asked.

    With the moment at which its requests were to be taken back (`decided`, Unix time in milliseconds) also how many
    milliseconds later it gave its last answer, negative for before.
    """
    since = work.since(effects.CANARY, effects.BAKE)
    if since is None:
        return {"attempts": 0, "bad": 0, "regions": {}}
    observed = observe_answering(work.house.edges, work.model, since)
    attempts = observed.attempts.of(revision.digest).live()
    regions: dict[str, JSON] = {}
    for region in work.regions:
        counts = [found for found in attempts.counts if found.region == region]
        regions[region] = {"attempts": sum(found.attempts for found in counts), "bad": sum(found.bad for found in counts)}
    last = max((found.last_ms for found in attempts.counts), default=0)
    answer: dict[str, JSON] = {"attempts": attempts.total(), "bad": attempts.bad(), "complete_to": attempts.complete_to, "regions": regions}
    answer |= {"last_answer_ms": last - decided} if last and decided is not None else {}
    silent: list[JSON] = [failure.edge for failure in observed.failures]
    return answer | ({"uncounted_edges": silent} if silent else {})


def unsure(why: Mapping[str, str], said: Mapping[str, Testimony]) -> OperationFailed:
    """Return the error that names each edge of which it is not known that it gives the revision nothing."""
    told = [
        f"weight unknown at edge {name}: it {why[name]}, and {found.how}"
        if found.percent is None
        else f"edge {name} still gives the revision {found.percent:g} %: it {why[name]}, and {found.how}"
        for name, found in said.items()
    ]
    remedy = "Look at its agent's and its Envoy's logs; reconcile puts it on stable once it answers."
    return OperationFailed(f"edge {', '.join(said)}", "; ".join(told), remedy)


def _why(percent: float | None, problem: str | None) -> str:
    if problem is not None:
        return problem
    return "has an Envoy that does not answer" if percent is None else f"was read with {percent:g} %"
