"""What an edge says about itself: the values behind `GET /state`, read back from its Envoy."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fleet.errors import OperationFailed
from traffic.table import RoutingTable

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """One backend as the edge's Envoy sees it; `healthy` is None while Envoy has not looked or does not answer."""

    revision: str
    region: str
    healthy: bool | None

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class WeightInForce:
    """A revision's share in percent, computed from the routes that Envoy reports."""

    revision: str
    percent: float

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class RegionInForce:
    """A region's part of the requests in percent, computed from the routes that Envoy reports."""

    region: str
    percent: float

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model at one edge.

    `table` is the last one accepted. `safe_because` says why its safe shares are in force instead of its shares
    (expired, a canary without a healthy host, ...) and is empty otherwise. `wanted_version` is the version under which
    the agent last wrote this model's routes, `envoy_version` the one that Envoy reports (None: it does not answer, or
    knows no route for the model). A renewal moves neither. `weights` and `regions` are empty when Envoy does not answer.
    """

    table: RoutingTable
    safe_because: str
    wanted_version: str
    envoy_version: str | None
    weights: tuple[WeightInForce, ...]
    backends: tuple[BackendHealth, ...]
    regions: tuple[RegionInForce, ...] = ()

    __pydantic_config__ = STRICT

    @property
    def on_safe_shares(self) -> bool:
        """Whether the edge left the table's shares for its safe ones."""
        return bool(self.safe_because)

    @property
    def confirmed(self) -> bool:
        """Whether Envoy itself reports what the agent last wrote."""
        return self.envoy_version == self.wanted_version

    @property
    def in_force(self) -> RoutingTable:
        """The table as the agent means it now: on its safe shares when it has left the others."""
        return self.table.on_safe_shares() if self.on_safe_shares else self.table

    def percent_of(self, revision: str) -> float | None:
        """Return a revision's share in percent as Envoy reports it; None when Envoy does not answer."""
        if not self.weights:
            return None
        return sum(weight.percent for weight in self.weights if weight.revision == revision)


@dataclass(frozen=True, slots=True)
class EdgeState:
    """An edge with all its models; `envoy_ready` says whether its Envoy answers and serves."""

    edge: str
    envoy_ready: bool
    models: tuple[ModelState, ...]

    __pydantic_config__ = STRICT

    def of(self, model: str) -> ModelState | None:
        """Return what the edge says about a model; None when it never had a table for it."""
        return next((state for state in self.models if state.table.model == model), None)

    def to_json(self) -> bytes:
        """Return the state as JSON, to be read by `state_from_json`."""
        return STATE.dump_json(self)


STATE: TypeAdapter[EdgeState] = TypeAdapter(EdgeState)


def state_from_json(data: bytes) -> EdgeState:
    """Return the state that an agent sent; raises OperationFailed when it is none."""
    try:
        return STATE.validate_json(data, strict=True)
    except ValidationError as problem:
        raise OperationFailed("edge agent", f"sent a state that cannot be read ({problem.error_count()} problems)") from problem
