"""The client's side of the edges: shift a table onto all of them, read back, and collect what was answered."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import httpx

from fleet.errors import (
    Busy,
    ConvoyError,
    Denied,
    InputError,
    NotSupported,
    OperationFailed,
    Refused,
    TooLate,
    UnknownName,
    Unreachable,
)
from fleet.evidence import Attempts
from traffic.edge_state import EdgeState, state_from_json
from traffic.table import RoutingTable, raises_exposure
from traffic.wire import Problem, attempts_from_json, problem_from_json

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
KINDS: dict[str, type[ConvoyError]] = {
    kind.__name__: kind for kind in (InputError, UnknownName, NotSupported, Refused, Busy, TooLate, Unreachable, Denied, OperationFailed)
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge agent, reached over HTTP with its bearer token.

    Every verb raises Unreachable when nobody answers, Denied when the token is refused, and the agent's own errors
    (Refused, InputError, OperationFailed, ...) as the agent raised them.
    """

    name: str
    url: str
    token: str

    def __repr__(self) -> str:
        return f"Edge(name={self.name!r}, url={self.url!r})"

    def prepare(self, table: RoutingTable) -> None:
        """Have the edge check a table and warm its backends; no request is routed differently yet.

        Raises Refused when the table is stale or a backend that it raises is not healthy.
        """
        self._send("PUT", f"/tables/{table.model}/prepare", table.to_json())

    def apply(self, table: RoutingTable) -> EdgeState:
        """Put a table in force and return what Envoy reports afterwards; the same table again changes nothing."""
        return state_from_json(self._send("PUT", f"/tables/{table.model}", table.to_json()))

    def take_safe_shares(self, model: str, epoch: int) -> EdgeState:
        """Put the safe shares of the model's present table in force; raises Refused for an epoch that has passed."""
        return state_from_json(self._send("PUT", f"/tables/{model}/safe", b"", {"epoch": epoch}))

    def state(self) -> EdgeState:
        """Return every model's table with what Envoy reports about it now."""
        return state_from_json(self._send("GET", "/state"))

    def attempts(self, model: str, since: int, until: int) -> Attempts:
        """Return the counts of the seconds from `since` up to, not including, `until` (Unix time)."""
        return attempts_from_json(self._send("GET", "/attempts", b"", {"model": model, "from": since, "to": until}))

    def _send(self, method: str, path: str, body: bytes = b"", query: dict[str, str | int] | None = None) -> bytes:
        timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        try:
            with httpx.Client(verify=_certificates(), timeout=timeout, trust_env=False) as client:
                answer = client.request(method, self.url.rstrip("/") + path, content=body, params=query, headers=headers)
        except httpx.TransportError as problem:
            raise Unreachable(f"edge '{self.name}'", f"does not answer at {self.url} ({type(problem).__name__})") from problem
        if answer.status_code == 401:
            raise Denied(f"edge '{self.name}'", "refused our token", "Restart the stack, so that both sides read the same credentials.")
        if not answer.is_success:
            raise _translated(self.name, answer.status_code, problem_from_json(answer.content))
        return answer.content


@dataclass(frozen=True, slots=True)
class EdgeFailure:
    """An edge that did not take a table, and why."""

    edge: str
    error: ConvoyError


@dataclass(frozen=True, slots=True)
class Shifted:
    """What a shift of a model came to: the states read back, and the edges that did not take the table.

    A failed edge was put on its safe shares if it answers, and takes them by itself at its table's expiry if not.
    """

    model: str
    states: tuple[EdgeState, ...]
    failures: tuple[EdgeFailure, ...]

    @property
    def complete(self) -> bool:
        """Whether every edge took the table and its Envoy reports it as in force."""
        models = [state.of(self.model) for state in self.states]
        return not self.failures and all(model is not None and model.confirmed for model in models)


def shift(edges: Sequence[Edge], table: RoutingTable) -> Shifted:
    """Put a table in force on every edge and return what was read back.

    A table that raises a revision's exposure at any edge is first prepared by all: the first refusal is raised and
    none has switched. An edge that then fails to switch is put on its safe shares and reported. A table that raises
    nothing goes to each edge alone, so that no dead edge can veto it.
    """
    if not edges:
        raise InputError("shift", "there is no edge to shift")
    if _raises_somewhere(edges, table):
        _prepare_all(edges, table)
    return _apply_all(edges, table)


def observe(edges: Sequence[Edge], model: str, since: int, now: Callable[[], float] = time.time) -> Attempts:
    """Return the attempts of a model at all edges since a second; raises Unreachable if one edge cannot be asked."""
    until = int(now()) + 1
    with ThreadPoolExecutor(max_workers=len(edges) or 1) as pool:
        return Attempts.merged(pool.map(lambda edge: edge.attempts(model, since, until), edges))


def _raises_somewhere(edges: Sequence[Edge], table: RoutingTable) -> bool:
    """Ask every edge what it has in force; one that cannot be asked does not stop a table that lowers the others."""
    answers = _on_all(edges, lambda edge: edge.state())
    states = [answer for answer in answers if isinstance(answer, EdgeState)]
    if not states:
        raise next(answer for answer in answers if isinstance(answer, ConvoyError))
    held = [state.of(table.model) for state in states]
    return any(raises_exposure(model.in_force if model else None, table) for model in held)


def _prepare_all(edges: Sequence[Edge], table: RoutingTable) -> None:
    refusals = [answer for answer in _on_all(edges, lambda edge: edge.prepare(table)) if isinstance(answer, ConvoyError)]
    if refusals:
        raise refusals[0]


def _apply_all(edges: Sequence[Edge], table: RoutingTable) -> Shifted:
    states: list[EdgeState] = []
    failures: list[EdgeFailure] = []
    for edge, answer in zip(edges, _on_all(edges, lambda edge: edge.apply(table)), strict=True):
        if isinstance(answer, EdgeState):
            states.append(answer)
            continue
        failures.append(EdgeFailure(edge.name, answer))
        # An edge that does not answer takes its safe shares by itself once its table expires
        with contextlib.suppress(ConvoyError):
            states.append(edge.take_safe_shares(table.model, table.epoch))
    return Shifted(table.model, tuple(states), tuple(failures))


def _on_all(edges: Iterable[Edge], verb: Callable[[Edge], T]) -> list[T | ConvoyError]:
    """Call a verb on all edges at once; each answer is a value or the error in its place."""

    def attempt(edge: Edge) -> T | ConvoyError:
        try:
            return verb(edge)
        except ConvoyError as problem:
            return problem

    several = list(edges)
    with ThreadPoolExecutor(max_workers=len(several)) as pool:
        return list(pool.map(attempt, several))


@cache
def _certificates() -> ssl.SSLContext:
    """Load the certificates that are trusted, once: it takes ten times as long as a whole call on loopback."""
    return httpx.create_ssl_context(trust_env=False)


def _translated(edge: str, status: int, problem: Problem | None) -> ConvoyError:
    if problem is None or problem.kind not in KINDS:
        return OperationFailed(f"edge '{edge}'", f"answered {status} without a reason that can be read")
    return KINDS[problem.kind](f"edge '{edge}': {problem.subject}", problem.reason, problem.remedy)
