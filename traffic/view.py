"""Reads an Envoy's report against the tables that an edge holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fleet.canonical import short
from traffic.admin import Report
from traffic.edge_state import BackendHealth, ModelState, RegionInForce, WeightInForce
from traffic.envoy import labels_in
from traffic.lanes import cluster_name
from traffic.memory import Held
from traffic.table import Backend, RoutingTable


def model_state(held: Held, report: Report | None) -> ModelState:
    """Return what can be said about a model; without a report, Envoy's part stays empty."""
    table = held.table
    return ModelState(
        table=table,
        safe_because=held.safe_because,
        wanted_version=held.label,
        envoy_version=labels_in(report.routes_version or "").get(table.model) if report else None,
        weights=_weights(table, report) if report else (),
        backends=tuple(BackendHealth(b.revision, b.region, healthy(report, table.model, b)) for b in table.backends),
        regions=_regions(table, report) if report else (),
    )


def healthy(report: Report | None, model: str, backend: Backend) -> bool | None:
    """Say whether Envoy's health check finds a backend well; None while it has not looked."""
    return report.healthy.get(cluster_name(model, backend.revision, backend.region)) if report else None


def unwell(report: Report, model: str, backends: Iterable[Backend]) -> tuple[Backend, ...]:
    """Return the backends that Envoy does not find healthy, those it has not looked at included."""
    return tuple(backend for backend in backends if healthy(report, model, backend) is not True)


def dead_revisions(report: Report, table: RoutingTable) -> tuple[str, ...]:
    """Return the revisions with a share now and none of the safe ones that have no healthy backend left.

    One that Envoy has not looked at yet (it has just started) is not dead.
    """
    canaries = [share.revision for share in table.shares if share.weight > 0 and not table.safe_weight_of(share.revision)]
    places = {revision: [b for b in table.backends if b.revision == revision] for revision in canaries}
    return tuple(revision for revision in canaries if all(healthy(report, table.model, place) is False for place in places[revision]))


def _weights(table: RoutingTable, report: Report) -> tuple[WeightInForce, ...]:
    """Sum up the clusters' weights by revision; a revision that the table does not name goes by its short name.

    Where Envoy refuses the model's requests, because nobody may answer them, each revision has nothing.
    """
    clusters = report.weights.get(table.model, {})
    whole = sum(clusters.values())
    names = {short(backend.revision): backend.revision for backend in table.backends}
    if not whole:
        return tuple(WeightInForce(revision, 0.0) for revision in names.values() if table.model in report.weights)
    sums: dict[str, int] = defaultdict(int)
    for name, weight in clusters.items():
        revision = name.split("/")[1]
        sums[names.get(revision, revision)] += weight
    return tuple(WeightInForce(revision, 100 * weight / whole) for revision, weight in sums.items())


def _regions(table: RoutingTable, report: Report) -> tuple[RegionInForce, ...]:
    """Sum up the clusters' weights by region: where an edge sends requests while every region can answer."""
    clusters = report.weights.get(table.model, {})
    whole = sum(clusters.values())
    sums: dict[str, int] = defaultdict(int)
    for name, weight in clusters.items():
        sums[name.split("/")[2]] += weight
    return tuple(RegionInForce(region, 100 * weight / whole) for region, weight in sums.items()) if whole else ()
