"""What the edges have in force: each by itself, and all of them against what was promoted."""

from __future__ import annotations

from collections.abc import Iterator

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from control.stack.components import log_of
from fleet.canonical import short
from traffic.edge_state import EdgeState
from traffic.edges import Looked, look


def edges(case: Case) -> Iterator[Finding]:
    """Whether each edge has in force what it was told, and sends everything to stable while no release is under way."""
    looked = look(case.house.edges)
    logs = {place.name: log_of(case.home, place.agent_program) for place in case.house.edge_places}
    for failure in looked.failures:
        yield problem(f"edge '{failure.edge}'", failure.error.reason, f"tail -n 40 {logs[failure.edge]}; convoy up")
    yield from laid_out(case)
    for state in looked.states:
        yield from told(case, state, f"tail -n 40 {logs[state.edge]}")
    yield from promoted(case, looked)


def laid_out(case: Case) -> Iterator[Finding]:
    """Whether a stack with an edge in each region has one in each of those that fleet.yaml has now."""
    standing = {place.region for place in case.house.edge_places if place.region is not None}
    otherwise = sorted(standing ^ set(case.house.fleet.regions)) if standing else []
    if otherwise:
        yield warning("edges", f"fleet.yaml has other regions now than the stack has edges in: {', '.join(otherwise)}", "convoy up")


def told(case: Case, state: EdgeState, log: str) -> Iterator[Finding]:
    """Whether an edge's Envoy has what its agent wrote, and what a release under way asked for."""
    from flows.desires import unfinished

    for model in state.models:
        subject = f"edge {state.edge}, {model.table.model}"
        if not model.confirmed:
            yield problem(subject, "its Envoy does not report the routes that the agent wrote", log)
        elif model.on_safe_shares and unfinished(case.house.ledger, model.table.model):
            reason = f"is on its safe shares though a release is under way: {model.safe_because}"
            yield warning(subject, reason, "convoy status --watch")


def promoted(case: Case, looked: Looked) -> Iterator[Finding]:
    """Whether every edge sends everything of a model without a release under way to its stable revision."""
    from flows.behind import edges_behind
    from flows.desires import unfinished
    from flows.work import stable_of

    for name in case.house.fleet.models:
        stable = stable_of(case.house, name)
        if stable is None or unfinished(case.house.ledger, name):
            continue
        late = edges_behind(case.house, stable, looked)
        if late:
            yield problem(f"edges of {name}", f"{'; '.join(late)}; reconcile repairs it within a minute", "convoy status --watch")
        else:
            yield ok(f"edges of {name}", f"send everything to version {stable.version} ({short(stable.digest)})")
