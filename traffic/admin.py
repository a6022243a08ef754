"""What an Envoy says about itself on its admin interface: the only witness of what is really in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from fleet.errors import OperationFailed, Unreachable
from traffic.envoy import LOOPBACK, ROUTES

SECONDS = 2.0
CLUSTERS_VERSION = "cluster_manager.cds.version_text"
WARMING = "cluster_manager.warming_clusters"
STARTING = (404, 503)
"""An Envoy that was just started has no routes to dump for a moment."""


@dataclass(frozen=True, slots=True)
class Report:
    """One look at an Envoy.

    `weights` holds, per route (its name is the model), each cluster's weight, nothing for one that refuses; `healthy`,
    per cluster, whether its first choice is healthy (None: not looked at yet). `clusters_settled` is False while a new
    cluster still warms.
    """

    routes_version: str | None
    clusters_version: str | None
    clusters_settled: bool
    weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    healthy: Mapping[str, bool | None] = field(default_factory=dict)


class EnvoyAdmin:
    """Reads one Envoy; every verb raises Unreachable when it does not answer or is still starting."""

    def __init__(self, port: int) -> None:
        self._client = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=SECONDS, trust_env=False)

    def ready(self) -> bool:
        """Say whether Envoy has started and serves."""
        try:
            return self._client.get("/ready").status_code == 200
        except httpx.TransportError:
            return False

    def report(self) -> Report:
        """Return the versions, weights and health that Envoy reports."""
        routes = self._read("/config_dump", {"resource": "dynamic_route_configs"})
        stats = self._read("/stats", {"format": "json", "filter": f"^({CLUSTERS_VERSION}|{WARMING})$"})
        clusters = self._read("/clusters", {"format": "json"})
        figures = {stat["name"]: stat["value"] for stat in stats.get("stats", []) if "name" in stat}
        version, weights = _routes(routes)
        return Report(
            routes_version=version,
            clusters_version=figures.get(CLUSTERS_VERSION) or None,
            clusters_settled=figures.get(WARMING) == 0,
            weights=weights,
            healthy={status["name"]: _first_choice(status) for status in clusters.get("cluster_statuses", [])},
        )

    def reopen_logs(self) -> None:
        """Have Envoy open its log files anew, after they were renamed."""
        self._send("POST", "/reopen_logs", {})

    def _read(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            document = orjson.loads(self._send("GET", path, query))
        except orjson.JSONDecodeError as problem:
            raise OperationFailed("envoy", f"answered {path} with something that is not JSON") from problem
        return document if isinstance(document, dict) else {}

    def _send(self, method: str, path: str, query: dict[str, str]) -> bytes:
        try:
            answer = self._client.request(method, path, params=query)
        except httpx.TransportError as problem:
            raise Unreachable("envoy", f"its admin interface does not answer ({type(problem).__name__})") from problem
        if answer.status_code in STARTING:
            raise Unreachable("envoy", f"is still starting: its admin interface answered {path} with {answer.status_code}")
        if not answer.is_success:
            raise OperationFailed("envoy", f"its admin interface answered {path} with {answer.status_code}")
        return answer.content


def _routes(dump: Mapping[str, Any]) -> tuple[str | None, dict[str, dict[str, int]]]:
    for found in dump.get("configs", []):
        configuration = found.get("route_config", {})
        if configuration.get("name") == ROUTES:
            routes = [route for host in configuration.get("virtual_hosts", []) for route in host.get("routes", [])]
            return found.get("version_info"), {route["name"]: _weights(route) for route in routes}
    return None, {}


def _weights(route: Mapping[str, Any]) -> dict[str, int]:
    clusters = route.get("route", {}).get("weighted_clusters", {}).get("clusters", [])
    return {cluster["name"]: int(cluster.get("weight", 0)) for cluster in clusters}


def _first_choice(status: Mapping[str, Any]) -> bool | None:
    """Judge the hosts of priority 0 by the active health check alone: an ejection passes within seconds."""
    checks = [host.get("health_status", {}) for host in status.get("host_statuses", []) if host.get("priority", 0) == 0]
    if not checks or any(check.get("pending_active_hc") for check in checks):
        return None
    return not any(check.get("failed_active_health_check") for check in checks)
