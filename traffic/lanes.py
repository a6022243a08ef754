"""The lanes of a routing table: who may answer which kind of request, and in which order.

A lane is a set of clusters of its own, one per revision and region, so that neither a fail-over nor a retry can leave
it. The metadata of its clusters say which class of traffic they carry; what is judged is live traffic alone.

- live: everybody's requests. Behind a canary stands stable.
- pinned: requests that chose their revision. Behind it stands the same revision in other regions, never another one.
- shadow: copies of stable's requests. Nothing stands behind: a copy that fails has failed.

Live and pinned lanes exist once for all regions and once for each residency, which holds its own regions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fleet.canonical import short
from traffic.table import Backend, RoutingTable

LIVE, CANARY, DRILL, PINNED, SHADOW = "live", "canary", "drill", "pinned", "shadow"
"""The labels with which requests reach a model's server; clusters carry live, pinned or shadow traffic."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of request: its class of traffic, and the residency mark that it must keep to (None: any region)."""

    traffic: str = LIVE
    mark: str | None = None

    @property
    def suffix(self) -> str:
        """What tells the lane's clusters and routes from those of everybody's requests."""
        return "".join(f"/{part}" for part in (None if self.traffic == LIVE else self.traffic, self.mark and f"in-{self.mark}") if part)


EVERYBODY: Final = Lane()


def cluster_name(model: str, revision: str, region: str, lane: Lane = EVERYBODY) -> str:
    """Return the name of a revision's cluster in a region; metadata carries the full digest."""
    return f"{model}/{short(revision)}/{region}{lane.suffix}"


def lanes_of(table: RoutingTable) -> tuple[Lane, ...]:
    """Return every lane that a table needs, everybody's first."""
    classes = [LIVE, *([PINNED] if table.rules.pin_header else [])]
    marks = [None, *(residency.mark for residency in table.rules.residency)]
    shadow = [Lane(SHADOW)] if table.shadow else []
    return (*(Lane(traffic, mark) for traffic in classes for mark in marks), *shadow)


def places(table: RoutingTable, lane: Lane) -> tuple[Backend, ...]:
    """Return the places of a table that a lane may use, in the table's order."""
    if lane.traffic == SHADOW:
        return tuple(backend for backend in table.backends if table.shadow and backend.revision == table.shadow.revision)
    allowed = next((residency.regions for residency in table.rules.residency if residency.mark == lane.mark), None)
    return tuple(backend for backend in table.backends if lane.mark is None or backend.region in (allowed or ()))


def rank(table: RoutingTable, lane: Lane, backend: Backend, place: Backend) -> int | None:
    """Say how early a place answers for a backend of the same lane: 0 is itself, None never."""
    if place == backend:
        return 0
    stands_behind = {LIVE: table.stable, PINNED: backend.revision}.get(lane.traffic)
    if place.revision != stands_behind:
        return None
    return 1 if place.region == backend.region else 2
