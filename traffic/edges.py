"""What is done to all edges: look, shift a table onto them, put them on safe shares, and collect what was answered.

Everything goes to all edges at once, each with a limit of its own, so that one that is dead or hangs delays no other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from fleet.errors import ConvoyError, InputError, TransientError, UnknownName
from fleet.evidence import Attempts
from traffic.edge_client import Edge
from traffic.edge_state import EdgeState
from traffic.table import RoutingTable, raises_exposure

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EdgeFailure:
    """An edge that did not do or say what it should, and why."""

    edge: str
    error: ConvoyError


@dataclass(frozen=True, slots=True)
class Looked:
    """What the edges say of themselves, and which of them said nothing."""

    states: tuple[EdgeState, ...]
    failures: tuple[EdgeFailure, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What the edges that can be asked have counted, each by its id, and those that cannot be asked."""

    by_edge: Mapping[str, Attempts]
    failures: tuple[EdgeFailure, ...]

    @property
    def attempts(self) -> Attempts:
        """All that was counted, complete as far as the slowest of those that can be asked."""
        return Attempts.merged(self.by_edge.values())


@dataclass(frozen=True, slots=True)
class Shifted:
    """What a change of a model's routes came to: the states read back, and the edges that did not make it.

    `spread` is the time in seconds between the first edge whose Envoy was seen to have switched and the last one, as
    seen from here. After `shift`, a failed edge was put on its safe shares if it answers, and takes them by itself at
    its table's expiry if not.
    """

    model: str
    states: tuple[EdgeState, ...]
    failures: tuple[EdgeFailure, ...]
    spread: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every edge took the table and its Envoy reports it as in force."""
        return not self.failures and all(_confirmed(state, self.model) for state in self.states)


def look(edges: Sequence[Edge]) -> Looked:
    """Return what every edge says of itself now."""
    answers = _on_all(edges, lambda edge: edge.state())
    return Looked(tuple(answer for answer in answers if isinstance(answer, EdgeState)), _failures(edges, answers))


def shift(edges: Sequence[Edge], table: RoutingTable) -> Shifted:
    """Put a table in force on every edge and return what was read back.

    A table that raises a revision's exposure at any edge is first prepared by all: the first refusal, or the first
    edge that cannot be asked, is raised and none has switched. An edge that then fails to switch is put on its safe
    shares and reported. A table that raises nothing goes to each edge alone, so that no dead edge can veto it.
    """
    if not edges:
        raise InputError("shift", "there is no edge to shift")
    if _raises_somewhere(edges, table):
        _prepare_all(edges, table)
    return _switched(edges, table.model, lambda edge: _apply_or_fall_back(edge, table))


def shift_alone(edges: Sequence[Edge], table: RoutingTable) -> Shifted:
    """Put a table in force at each edge by itself, prepared there where it raises exposure there.

    For what is safe by itself, such as everything for the stable revision: an edge that refuses it keeps what it has,
    and keeps no other from it.
    """
    return _switched(edges, table.model, lambda edge: (_take_alone(edge, table), None))


def make_safe(edges: Sequence[Edge], model: str, epoch: int) -> Shifted:
    """Put a model on its safe shares at every edge at once; an edge that never had a table for it has nothing to leave."""
    return _switched(edges, model, lambda edge: (_safe_or_untold(edge, model, epoch), None))


def observe(edges: Sequence[Edge], model: str, since: int, now: Callable[[], float] = time.time) -> Attempts:
    """Return the attempts of a model at all edges since a second; raises Unreachable if one edge cannot be asked."""
    observed = observe_answering(edges, model, since, now)
    if observed.failures:
        raise observed.failures[0].error
    return observed.attempts


def observe_answering(edges: Sequence[Edge], model: str, since: int, now: Callable[[], float] = time.time) -> Observed:
    """Return the attempts of a model at the edges that can be asked since a second, and which cannot.

    Raises what does not pass by itself: an edge that cannot be read is no edge that is away.
    """
    until = int(now()) + 1
    answers = _on_all(edges, lambda edge: edge.attempts(model, since, until))
    failures = _failures(edges, answers)
    lasting = [failure.error for failure in failures if not isinstance(failure.error, TransientError)]
    if lasting:
        raise lasting[0]
    counted = {edge.name: answer for edge, answer in zip(edges, answers, strict=True) if isinstance(answer, Attempts)}
    return Observed(counted, failures)


def _raises_somewhere(edges: Sequence[Edge], table: RoutingTable) -> bool:
    """Ask every edge what it has in force; one that cannot be asked stops what raises, and nothing that lowers the others."""
    looked = look(edges)
    if not looked.states:
        raise looked.failures[0].error
    held = [state.of(table.model) for state in looked.states]
    raises = any(raises_exposure(model.in_force if model else None, table) for model in held)
    if raises and looked.failures:
        raise looked.failures[0].error
    return raises


def _prepare_all(edges: Sequence[Edge], table: RoutingTable) -> None:
    refusals = [answer for answer in _on_all(edges, lambda edge: edge.prepare(table)) if isinstance(answer, ConvoyError)]
    if refusals:
        raise refusals[0]


def _apply_or_fall_back(edge: Edge, table: RoutingTable) -> tuple[EdgeState | None, ConvoyError | None]:
    try:
        return edge.apply(table), None
    except ConvoyError as problem:
        # An edge that does not answer takes its safe shares by itself once its table expires
        with contextlib.suppress(ConvoyError):
            return edge.take_safe_shares(table.model, table.epoch), problem
        return None, problem


def _take_alone(edge: Edge, table: RoutingTable) -> EdgeState:
    held = edge.state().of(table.model)
    if raises_exposure(held.in_force if held else None, table):
        edge.prepare(table)
    return edge.apply(table)


def _safe_or_untold(edge: Edge, model: str, epoch: int) -> EdgeState:
    try:
        return edge.take_safe_shares(model, epoch)
    except UnknownName:
        return edge.state()


def _switched(edges: Sequence[Edge], model: str, verb: Callable[[Edge], tuple[EdgeState | None, ConvoyError | None]]) -> Shifted:
    """Call a verb on all edges at once; time, on one steady clock, when each was seen to have switched."""

    def timed(edge: Edge) -> tuple[EdgeState | None, ConvoyError | None, float]:
        state, problem = verb(edge)
        return state, problem, time.monotonic()

    answers = [(None, found, 0.0) if isinstance(found, ConvoyError) else found for found in _on_all(edges, timed)]
    states = tuple(state for state, _, _ in answers if state is not None)
    failures = tuple(EdgeFailure(edge.name, problem) for edge, (_, problem, _) in zip(edges, answers, strict=True) if problem is not None)
    switched = [at for state, problem, at in answers if state is not None and problem is None and _confirmed(state, model)]
    return Shifted(model, states, failures, max(switched) - min(switched) if switched else 0.0)


def _confirmed(state: EdgeState, model: str) -> bool:
    found = state.of(model)
    return found is not None and found.confirmed


def _failures(edges: Iterable[Edge], answers: Iterable[object]) -> tuple[EdgeFailure, ...]:
    pairs = zip(edges, answers, strict=True)
    return tuple(EdgeFailure(edge.name, answer) for edge, answer in pairs if isinstance(answer, ConvoyError))


def _on_all(edges: Sequence[Edge], verb: Callable[[Edge], T]) -> list[T | ConvoyError]:
    """Call a verb on all edges at once; each answer is a value or the error in its place."""

    def attempt(edge: Edge) -> T | ConvoyError:
        try:
            return verb(edge)
        except ConvoyError as problem:
            return problem

    with ThreadPoolExecutor(max_workers=len(edges) or 1) as pool:
        return list(pool.map(attempt, edges))
