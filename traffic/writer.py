"""Puts Envoy's watched files in place: clusters before the routes that need them, and gone only after these."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleet.canonical import canonical_json, digest_of
from traffic.clusters import Cluster, clusters_of
from traffic.envoy import clusters_file, clusters_in, routes_file, version_of
from traffic.gateway import GatewayFiles, write_atomically
from traffic.identity import EdgeIdentity
from traffic.memory import Held
from traffic.placement import Placement
from traffic.table import RoutingTable

LINGER_SECONDS = 15.0
AGAIN_SECONDS = 1.0
PLACED = "~placed"
"""What stands for the placements in a version; no model is called so."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything an Envoy should know: the tables that are held, those whose backends are being warmed, and where requests go."""

    held: tuple[Held, ...]
    prepared: tuple[RoutingTable, ...] = ()
    placements: Mapping[str, Placement] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[RoutingTable, ...]:
        """The tables as they are in force."""
        return tuple(held.in_force for held in self.held)

    @property
    def version(self) -> str:
        """The version that the routes carry; a placement shows in it, so that Envoy can be seen to have taken it."""
        labels = {held.table.model: held.label for held in self.held}
        if not self.placements:
            return version_of(labels)
        placed = {model: [placement.floor, dict(placement.caps)] for model, placement in self.placements.items()}
        return version_of({**labels, PLACED: digest_of(canonical_json(placed))[7:15]})

    def clusters(self) -> dict[str, Cluster]:
        """Return the clusters by name; a table that is being prepared has the last word on its own."""
        tables = [*self.tables, *self.prepared]
        return {cluster.name: cluster for table in tables for cluster in clusters_of(table)}


class Writer:
    """Writes one Envoy's clusters and routes; not to be used from two threads at once.

    A cluster that the tables no longer need stays until Envoy reports the routes that do without it, and some seconds
    longer for the requests that are still on their way.
    """

    def __init__(self, folder: Path, identity: EdgeIdentity) -> None:
        self._identity = identity
        self._files = GatewayFiles(folder.absolute())
        self._written = {cluster.name: cluster for cluster in clusters_in(self._files.clusters.read_bytes())}
        self._leaving: dict[str, float] = {}
        self._clusters_at = self._routes_at = time.monotonic()
        self._routes = routes_file((), version_of({}))
        self._clusters = clusters_file(self._written.values())

    @property
    def clusters_version(self) -> str:
        """The version of the clusters written last."""
        return self._clusters.version

    @property
    def routes_version(self) -> str:
        """The version of the routes written last."""
        return self._routes.version

    def write_clusters(self, wanted: Wanted, abandoned: frozenset[str] = frozenset()) -> None:
        """Write the clusters that are wanted and those that still linger; `abandoned` ones were never routed to and do not."""
        needed = wanted.clusters()
        for name in self._written.keys() - needed.keys() - abandoned:
            self._leaving.setdefault(name, time.monotonic() + LINGER_SECONDS)
        self._written = {**{name: self._written[name] for name in self._leaving}, **needed}
        clusters = clusters_file(self._written.values())
        if clusters != self._clusters:
            self._clusters = clusters
            self._put_clusters()

    def write(self, wanted: Wanted) -> None:
        """Write the clusters, then the routes."""
        self.write_clusters(wanted)
        self._routes = routes_file(wanted.tables, wanted.version, self._identity.drills, self._identity.region, wanted.placements)
        self._put_routes()

    def drop_leftovers(self, wanted: Wanted) -> None:
        """Write the clusters without those that have lingered long enough; Envoy must have reported the present routes."""
        staying = {name: until for name, until in self._leaving.items() if until > time.monotonic()}
        if staying == self._leaving:
            # Twice a second there is nothing to drop, and to work out all clusters for that would be felt by requests
            return
        self._leaving = staying
        kept = self._written.keys() & (wanted.clusters().keys() | self._leaving.keys())
        self._written = {name: self._written[name] for name in kept}
        self.write_clusters(wanted)

    def write_again(self, clusters_version: str | None, routes_version: str | None) -> None:
        """Put a file in place once more when Envoy has not taken it within a second: it reads on a rename only."""
        if clusters_version != self.clusters_version and time.monotonic() - self._clusters_at > AGAIN_SECONDS:
            self._put_clusters()
        if routes_version != self.routes_version and time.monotonic() - self._routes_at > AGAIN_SECONDS:
            self._put_routes()

    def _put_clusters(self) -> None:
        write_atomically(self._files.clusters, self._clusters.content)
        self._clusters_at = time.monotonic()

    def _put_routes(self) -> None:
        write_atomically(self._files.routes, self._routes.content)
        self._routes_at = time.monotonic()
