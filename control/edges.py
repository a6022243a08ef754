"""The edges as they are: which version of each model's table an edge's Envoy itself reports, and with which weights."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from fleet.canonical import short
from flows.house import House
from traffic.edge_state import ModelState
from traffic.edges import Looked

EDGE_COLUMNS = ("edge", "model", "version in force", "weights", "state")


class EdgeModelView(BaseModel):
    """One model at one edge.

    `version` is what its Envoy reports to have in force (None: it is silent, or has no route), `wanted` what its agent
    wrote last; `weights` are percents by revision as Envoy reports them, `regions` percents by region. `safe_because` says
    why the edge left its table's shares for the safe ones, empty where it has not or they are the same. `chooses` says
    whether the regions' parts follow what the edge measures.
    """

    model_config = ConfigDict(frozen=True)

    version: str | None
    wanted: str
    weights: dict[str, float]
    safe_because: str
    regions: dict[str, float] = {}
    chooses: bool = False


class EdgeView(BaseModel):
    """One edge; `region` is where it stands (None: it is for all), `reason` why it is not healthy."""

    model_config = ConfigDict(frozen=True)

    region: str | None
    url: str
    healthy: bool
    reason: str
    models: dict[str, EdgeModelView]


def edge_views(house: House, looked: Looked) -> dict[str, EdgeView]:
    """Return every edge as it was looked at."""
    states = {state.edge: state for state in looked.states}
    silent = {failure.edge: failure.error.reason for failure in looked.failures}
    views = {}
    for place in house.edge_places:
        state = states.get(place.name)
        ready = state is not None and state.envoy_ready
        reason = "" if ready else silent.get(place.name, "its Envoy does not answer")
        models = {found.table.model: _model(found) for found in state.models} if state is not None else {}
        views[place.name] = EdgeView(region=place.region, url=place.url, healthy=ready, reason=reason, models=models)
    return views


def edge_rows(edges: Mapping[str, EdgeView]) -> list[tuple[str, ...]]:
    """Return the edges' table, one row per model at an edge, as plain text."""
    rows: list[tuple[str, ...]] = []
    for name, edge in edges.items():
        rows += [(name, model, found.version or "", _weights(found), _state(edge, found)) for model, found in edge.models.items()]
        if not edge.models:
            rows.append((name, "", "", "", edge.reason or "no table yet"))
    return rows


def _model(found: ModelState) -> EdgeModelView:
    weights = {weight.revision: weight.percent for weight in found.weights}
    left = found.safe_because if found.table.shares != found.table.safe else ""
    regions = {each.region: each.percent for each in found.regions}
    chooses = found.table.rules.choice is not None
    return EdgeModelView(
        version=found.envoy_version, wanted=found.wanted_version, weights=weights, safe_because=left, regions=regions, chooses=chooses
    )


def _weights(found: EdgeModelView) -> str:
    return ", ".join(f"{short(revision)} {percent:g} %" for revision, percent in found.weights.items())


def _state(edge: EdgeView, found: EdgeModelView) -> str:
    if edge.reason:
        return edge.reason
    if found.version != found.wanted:
        return f"its agent wrote {found.wanted}"
    state = f"on safe weights: {found.safe_because}" if found.safe_because else "in force"
    where = ", ".join(f"{region} {percent:g} %" for region, percent in found.regions.items())
    return f"{state}; sends to {where}" if found.chooses and where else state
