"""Envoy's clusters for a routing table: one per lane, revision and region, with the ways out when that place is lost.

Priority 0 is the revision in its region. Behind a canary stand the stable revision in the same region, then in the
model's other regions; behind stable stands stable elsewhere. So the share of a place that died is answered by stable,
and what a caller sees never depends on a canary. An edge's clusters hold only places that the table names, and those
of a lane only places that the lane may use (see `lanes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from fleet.canonical import canonical_json
from traffic.attempts.formats import METADATA
from traffic.lanes import LIVE, SHADOW, Lane, cluster_name, lanes_of, places, rank
from traffic.rules import Limits
from traffic.table import Backend, RoutingTable

HEALTH_PATH = "/v2/health/ready"
TYPE = "type.googleapis.com/envoy"
UNDECLARED = Limits(requests=4096, pending=4096)
RETRIES = 512
SHADOW_REQUESTS = 128
"""Copies under way to one place; each holds its request in the edge's memory until it is answered."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster: its name and its whole definition as canonical JSON."""

    name: str
    definition: bytes


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Milliseconds that derive from the SLO's limit of one answer.

    A try may take three times the limit: a slow answer is then counted as slow and still given, and only a hung one
    is tried elsewhere. The whole takes two tries, so that a hang is retried once and never more: when a canary and
    stable hang in one region at the same time, the canary's share there gets 504 until the health checks see it.
    """

    connect: int
    per_try: int
    whole: int

    @classmethod
    def of(cls, latency_ms: int) -> Timeouts:
        """Return the timeouts of a model that promises an answer within `latency_ms`."""
        return cls(connect=max(latency_ms, 100), per_try=3 * latency_ms, whole=6 * latency_ms)


def clusters_of(table: RoutingTable) -> tuple[Cluster, ...]:
    """Return a cluster for each lane and each backend that it may use, whether it has a share or not."""
    return tuple(_cluster(table, lane, backend) for lane in lanes_of(table) for backend in places(table, lane))


def seconds(milliseconds: int) -> str:
    """Return a duration the way protobuf's JSON writes it."""
    return f"{milliseconds / 1000:.3f}s"


def _cluster(table: RoutingTable, lane: Lane, backend: Backend) -> Cluster:
    name = cluster_name(table.model, backend.revision, backend.region, lane)
    kind = {} if lane.traffic == LIVE else {"traffic": lane.traffic}
    definition = {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": seconds(Timeouts.of(table.latency_ms).connect),
        "metadata": _metadata(model=table.model, revision=backend.revision, region=backend.region, **kind),
        "load_assignment": {"cluster_name": name, "endpoints": _localities(table, lane, backend)},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [_health_check()],
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {"thresholds": [_thresholds(table, lane)]},
        "typed_extension_protocol_options": {
            f"{TYPE.removeprefix('type.googleapis.com/')}.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
                # Below the servers' keep-alive (uvicorn: 5 s), or their closing would count as a reset of the revision
                "common_http_protocol_options": {"idle_timeout": "2s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
    return Cluster(name, canonical_json(definition))


def _thresholds(table: RoutingTable, lane: Lane) -> dict[str, object]:
    """Return how much a cluster takes at a time; copies never wait, and may not fill the edge's memory.

    A connection carries one request at a time, so the limit of requests is one of connections too.
    """
    if lane.traffic == SHADOW:
        return {"max_connections": SHADOW_REQUESTS, "max_requests": SHADOW_REQUESTS, "max_pending_requests": SHADOW_REQUESTS}
    declared = table.rules.limits
    taken = declared or UNDECLARED
    return {
        **({"max_connections": declared.requests} if declared else {}),
        "max_pending_requests": taken.pending,
        "max_requests": taken.requests,
        # Envoy's default of three retries at a time loses requests when a place dies
        "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": min(taken.requests, RETRIES)},
    }


def _localities(table: RoutingTable, lane: Lane, backend: Backend) -> list[object]:
    """Group the places that may answer for a backend by priority, without gaps, as Envoy wants them."""
    ranked = sorted(
        ((early, place) for place in places(table, lane) if (early := rank(table, lane, backend, place)) is not None),
        key=lambda pair: pair[0],
    )
    groups = [[place for _, place in group] for _, group in groupby(ranked, key=lambda pair: pair[0])]
    return [{"priority": priority, "lb_endpoints": [_endpoint(place) for place in group]} for priority, group in enumerate(groups)]


def _endpoint(place: Backend) -> dict[str, object]:
    return {
        "endpoint": {"address": {"socket_address": {"address": place.host, "port_value": place.port}}},
        "metadata": _metadata(revision=place.revision, region=place.region),
    }


def _metadata(**values: str) -> dict[str, object]:
    return {"filter_metadata": {METADATA: values}}


def _health_check() -> dict[str, object]:
    return {
        "timeout": "2s",
        "interval": "1s",
        "interval_jitter": "0.100s",
        # Envoy looks only once a minute at a cluster that has no traffic
        "no_traffic_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": HEALTH_PATH},
    }


def _outlier_detection() -> dict[str, object]:
    """Eject for failures of the connection alone: an ejection by status codes would move the traffic that is judged."""
    return {
        "interval": "0.500s",
        "base_ejection_time": "1s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 100,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
    }
