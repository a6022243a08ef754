"""One edge's agent as a controller reaches it: over HTTP, with the edge's bearer token."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache

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
from traffic.table import RoutingTable
from traffic.wire import Problem, attempts_from_json, problem_from_json

CONNECT_SECONDS = 2.0
LOOK_SECONDS = 5.0
"""An agent whose Envoy hangs says so within some two seconds (traffic/admin.py)."""
SAFE_SECONDS = 6.0
APPLY_SECONDS = 15.0
"""Longer than an agent waits for its Envoy to confirm (traffic/keeper.py)."""
PREPARE_SECONDS = 40.0
"""Longer than `envoy --mode validate` and the warming take at most."""
COUNT_SECONDS = 10.0
KINDS: dict[str, type[ConvoyError]] = {
    kind.__name__: kind for kind in (InputError, UnknownName, NotSupported, Refused, Busy, TooLate, Unreachable, Denied, OperationFailed)
}
Query = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge agent; `admin` is the loopback port of its Envoy's admin interface, where that is on this machine.

    Every verb raises Unreachable when nobody answers in its time, Denied when the token is refused, and the agent's own
    errors (Refused, InputError, OperationFailed, ...) as the agent raised them.
    """

    name: str
    url: str
    token: str
    admin: int | None = None

    def __repr__(self) -> str:
        return f"Edge(name={self.name!r}, url={self.url!r})"

    def prepare(self, table: RoutingTable) -> None:
        """Have the edge check a table and warm its backends; no request is routed differently yet.

        Raises Refused when the table is stale or a backend that it raises is not healthy.
        """
        self._send("PUT", f"/tables/{table.model}/prepare", table.to_json(), seconds=PREPARE_SECONDS)

    def apply(self, table: RoutingTable) -> EdgeState:
        """Put a table in force and return what Envoy reports afterwards; the same table again changes nothing."""
        return state_from_json(self._send("PUT", f"/tables/{table.model}", table.to_json(), seconds=APPLY_SECONDS))

    def take_safe_shares(self, model: str, epoch: int) -> EdgeState:
        """Put the safe shares of the model's present table in force, and let no earlier epoch change them.

        Raises Refused for an epoch that has passed, UnknownName where the edge never had a table for the model.
        """
        return state_from_json(self._send("PUT", f"/tables/{model}/safe", query={"epoch": epoch}, seconds=SAFE_SECONDS))

    def state(self) -> EdgeState:
        """Return every model's table with what Envoy reports about it now."""
        return state_from_json(self._send("GET", "/state", seconds=LOOK_SECONDS))

    def attempts(self, model: str, since: int, until: int) -> Attempts:
        """Return the counts of the seconds from `since` up to, not including, `until` (Unix time)."""
        query: Query = {"model": model, "from": since, "to": until}
        return attempts_from_json(self._send("GET", "/attempts", query=query, seconds=COUNT_SECONDS))

    def _send(self, method: str, path: str, body: bytes = b"", query: Query | None = None, seconds: float = LOOK_SECONDS) -> bytes:
        timeout = httpx.Timeout(seconds, connect=CONNECT_SECONDS)
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


@cache
def _certificates() -> ssl.SSLContext:
    """Load the certificates that are trusted, once: it takes ten times as long as a whole call on loopback."""
    return httpx.create_ssl_context(trust_env=False)


def _translated(edge: str, status: int, problem: Problem | None) -> ConvoyError:
    if problem is None or problem.kind not in KINDS:
        return OperationFailed(f"edge '{edge}'", f"answered {status} without a reason that can be read")
    return KINDS[problem.kind](f"edge '{edge}': {problem.subject}", problem.reason, problem.remedy)
