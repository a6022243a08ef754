"""The edges of a local stack: one for all regions or one in each, as the stack was started, with their ports and tokens."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.errors import ConvoyError, InputError
from fleet.home import Home
from fleet.settings import EdgeLayout
from fleet.stack import FIRST_REGION_PORT, HOST, Stack

EDGE = "edge"
"""The id of the one edge that is for all regions."""
FIRST_EDGE_PORT = 3
MORE_EDGES_PORT = 8
PORTS_PER_EDGE = 3
LAST_EDGE_PORT = FIRST_REGION_PORT - 2
"""Behind it lies the port that a stack holds while it starts."""


@dataclass(frozen=True, slots=True)
class EdgePlace:
    """One edge of a local stack; `region` is where it stands and what it prefers (None: it is for all regions).

    `port` is where callers come in; its Envoy's administration and its agent have the two ports behind that.
    """

    name: str
    region: str | None
    port: int

    @property
    def url(self) -> str:
        """Where callers send their requests."""
        return f"http://{HOST}:{self.port}"

    @property
    def admin_port(self) -> int:
        """The port of Envoy's own administration."""
        return self.port + 1

    @property
    def admin_url(self) -> str:
        """Envoy's own administration."""
        return f"http://{HOST}:{self.admin_port}"

    @property
    def agent_port(self) -> int:
        """The port of the edge's agent."""
        return self.port + 2

    @property
    def agent_url(self) -> str:
        """The edge's agent."""
        return f"http://{HOST}:{self.agent_port}"

    @property
    def gateway_program(self) -> str:
        """The name of its Envoy among the stack's programs."""
        return "edge" if self.region is None else f"edge-{self.name}"

    @property
    def agent_program(self) -> str:
        """The name of its agent among the stack's programs."""
        return "agent" if self.region is None else f"agent-{self.name}"

    def token(self, edge_token: str) -> str:
        """Return the edge's own token: no edge's token opens another edge of the same layout."""
        return edge_token if self.region is None else hmac.new(edge_token.encode(), self.name.encode(), hashlib.sha256).hexdigest()


def edge_places(stack: Stack, regions: Sequence[str]) -> tuple[EdgePlace, ...]:
    """Return the edges in these regions, one for all where there are none; the first has the ports that the one has.

    An edge's ports follow from its region's place among them, as a region's do from its place in fleet.yaml. Raises
    InputError past the block's end.
    """
    first = [stack.port_base + offset for offset in _first_offsets(regions)]
    if not regions:
        return (EdgePlace(EDGE, None, first[0]),)
    return tuple(EdgePlace(region, region, port) for region, port in zip(regions, first, strict=True))


def edge_offsets(regions: Sequence[str]) -> tuple[int, ...]:
    """Return where in a stack's block of ports the servers of these edges lie; raises InputError past the block's end."""
    return tuple(offset + server for offset in _first_offsets(regions) for server in range(PORTS_PER_EDGE))


def _first_offsets(regions: Sequence[str]) -> list[int]:
    offsets = [FIRST_EDGE_PORT, *range(MORE_EDGES_PORT, LAST_EDGE_PORT - PORTS_PER_EDGE + 2, PORTS_PER_EDGE)]
    if len(regions) > len(offsets):
        raise InputError(
            "fleet.yaml", f"one local stack holds {len(offsets)} edges, not {len(regions)}", "Have one edge: CONVOY_EDGES=one."
        )
    return offsets[: len(regions) or 1]


def recorded_regions(home: Home) -> tuple[str, ...]:
    """Return the regions in which a home's stack has an edge each; nothing where it has one for all."""
    try:
        return tuple(str(region) for region in json.loads(home.edges_file.read_text(encoding="utf-8"))["regions"])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, LookupError, TypeError) as problem:
        raise ConvoyError(
            str(home.edges_file), f"cannot be read ({problem})", "Delete it, and `convoy up` with CONVOY_EDGES set."
        ) from problem


def wanted_regions(home: Home, layout: EdgeLayout | None, declared: Sequence[str]) -> tuple[str, ...]:
    """Return the regions that shall have an edge each: as the settings say, else as the stack has it already."""
    per_region = bool(recorded_regions(home)) if layout is None else layout is EdgeLayout.PER_REGION
    return tuple(declared) if per_region else ()
