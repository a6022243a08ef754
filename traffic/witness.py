"""What an edge's Envoy says when the edge's agent says nothing: the last word on what an edge still routes."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from fleet.canonical import short
from fleet.errors import ConvoyError
from traffic.admin import SECONDS, EnvoyAdmin
from traffic.edge_client import Edge
from traffic.envoy import LOOPBACK


@dataclass(frozen=True, slots=True)
class Testimony:
    """A revision's share in percent as an Envoy itself has it (None: nobody knows), and how that is known."""

    percent: float | None
    how: str


def ask_envoy(edge: Edge, model: str, revision: str) -> Testimony:
    """Ask an edge's Envoy for a revision's share without its agent; one that is dead gives nobody anything."""
    if edge.admin is None:
        return Testimony(None, "its Envoy cannot be asked from here")
    if _refuses(edge.admin):
        return Testimony(0.0, "its Envoy is dead")
    try:
        weights = EnvoyAdmin(edge.admin).report().weights.get(model, {})
    except ConvoyError as problem:
        return Testimony(None, f"its Envoy {problem.reason}")
    whole = sum(weights.values())
    own = sum(weight for name, weight in weights.items() if name.split("/")[1] == short(revision))
    percent = 100 * own / whole if whole else 0.0
    return Testimony(percent, f"its Envoy was read with {percent:g} %")


def _refuses(port: int) -> bool:
    """Say whether nobody listens on a port of this machine; one who listens and hangs does not refuse."""
    with socket.socket() as probe:
        probe.settimeout(SECONDS)
        return probe.connect_ex((LOOPBACK, port)) == errno.ECONNREFUSED
