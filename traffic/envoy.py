"""Envoy's configuration as a pure function of the routing tables; each public function returns one file.

Envoy watches clusters, routes and listeners as files (https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api).
An answer of the application, whatever its status, is never retried; see `clusters` for where a failed try goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import orjson

from fleet.canonical import canonical_json, digest_of
from fleet.headers import RESIDENCY_HEADER
from traffic.attempts.formats import ACCESS_LOG, ACCESS_LOG_FORMAT, ANSWER_HEADER, ATTEMPTS_LOG, METADATA, ROUTER_LOG_FORMAT
from traffic.clusters import TYPE, Cluster
from traffic.drill_key import NO_DRILLS
from traffic.placement import Placement
from traffic.routes import nothing_here, routes_of
from traffic.table import RoutingTable

LOOPBACK = "127.0.0.1"
ROUTES = "main"
STAT_PREFIX = "edge"
LARGEST_REQUEST = 8 * 1024 * 1024
NO_TABLES = "none"
NOWHERE_ELSE: Mapping[str, Placement] = MappingProxyType({})
REFUSED = {
    "error": "%LOCAL_REPLY_BODY%",
    "reason": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "request_id": "%REQ(X-REQUEST-ID):128%",
}


@dataclass(frozen=True, slots=True)
class EdgePorts:
    """The loopback ports of an edge's Envoy: where callers come in, and its admin interface."""

    listener: int
    admin: int


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file that Envoy watches, and the version under which Envoy reports having taken it."""

    version: str
    content: bytes


def version_of(labels: Mapping[str, str]) -> str:
    """Return the version that the routes carry: each model with the label of its table."""
    return ";".join(f"{model}:{labels[model]}" for model in sorted(labels)) or NO_TABLES


def labels_in(version: str) -> dict[str, str]:
    """Return each model's label out of a version that Envoy reports."""
    return dict(part.split(":", 1) for part in version.split(";") if ":" in part)


def clusters_file(clusters: Iterable[Cluster]) -> WatchedFile:
    """Return the clusters file; its version is the digest of what it holds."""
    resources = [orjson.loads(cluster.definition) for cluster in sorted(clusters, key=lambda cluster: cluster.name)]
    return _watched(digest_of(canonical_json(resources)), resources)


def clusters_in(file: bytes) -> tuple[Cluster, ...]:
    """Return the clusters that a clusters file holds."""
    return tuple(Cluster(resource["name"], canonical_json(resource)) for resource in orjson.loads(file)["resources"])


def routes_file(
    tables: Sequence[RoutingTable],
    version: str,
    drills: str = NO_DRILLS,
    region: str | None = None,
    placements: Mapping[str, Placement] = NOWHERE_ELSE,
) -> WatchedFile:
    """Return the routes file, under a version that Envoy will report back.

    `drills` is the key of `drill_key`, `region` the one that the edge stands in, `placements` what each model's choice of
    regions came to.
    """
    placed = {table.model: placements.get(table.model) if table.rules.choice else None for table in tables}
    by_model = sorted(tables, key=lambda table: table.model)
    routes = [route for table in by_model for route in routes_of(table, drills, region, placed[table.model])]
    return _watched(version, [_route_configuration(routes, version)])


def listeners_file(ports: EdgePorts, logs: Path, trusted_proxies: int = 0) -> WatchedFile:
    """Return the listeners file: one listener on loopback that logs into a folder, behind so many proxies that are believed."""
    source = {"rds": {"route_config_name": ROUTES, "config_source": _file_source(logs / "envoy" / "rds.json")}}
    return _watched("1", [_listener(ports, logs, {**source, "xff_num_trusted_hops": trusted_proxies})])


def bootstrap_file(edge: str, ports: EdgePorts, folder: Path) -> bytes:
    """Return what Envoy starts from: its admin interface, and where the three watched files lie."""
    configuration = folder / "envoy"
    return canonical_json(
        {
            **_identity(edge, ports),
            "dynamic_resources": {
                "lds_config": _file_source(configuration / "lds.json"),
                "cds_config": _file_source(configuration / "cds.json"),
            },
        }
    )


def whole_file(ports: EdgePorts, logs: Path, clusters: Iterable[Cluster], tables: Sequence[RoutingTable]) -> bytes:
    """Return everything as one static configuration, for `envoy --mode validate`, which does not read watched files."""
    routes = [route for table in sorted(tables, key=lambda table: table.model) for route in routes_of(table, "validate")]
    listener = _listener(ports, logs, {"route_config": _untyped(_route_configuration(routes, NO_TABLES))})
    resources = {"listeners": [_untyped(listener)], "clusters": [_untyped(orjson.loads(cluster.definition)) for cluster in clusters]}
    return canonical_json({**_identity("validate", ports), "static_resources": resources})


def _watched(version: str, resources: Sequence[object]) -> WatchedFile:
    return WatchedFile(version, canonical_json({"version_info": version, "resources": resources}))


def _untyped(resource: Mapping[str, object]) -> dict[str, object]:
    """Leave out a resource's type, which only watched files carry."""
    return {key: value for key, value in resource.items() if key != "@type"}


def _identity(edge: str, ports: EdgePorts) -> dict[str, object]:
    paths = ("/ready", "/server_info", "/config_dump", "/clusters", "/stats", "/reopen_logs")
    return {
        "node": {"id": edge, "cluster": "convoy"},
        "admin": {"address": _address(ports.admin), "allow_paths": [{"prefix": path} for path in paths]},
    }


def _file_source(path: Path) -> dict[str, object]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _route_configuration(routes: Sequence[Mapping[str, object]], version: str) -> dict[str, object]:
    return {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        # Envoy reports the version of the last routes that differed in content, so the version is part of it
        "metadata": {"filter_metadata": {METADATA: {"version": version}}},
        "validate_clusters": True,
        # Between the servers and our logs alone
        "response_headers_to_remove": [ANSWER_HEADER],
        "virtual_hosts": [
            {
                "name": "models",
                "domains": ["*"],
                "routes": [*routes, nothing_here()],
            }
        ],
    }


def _listener(ports: EdgePorts, logs: Path, routes: Mapping[str, object]) -> dict[str, object]:
    return {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": "edge",
        "address": _address(ports.listener),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {**_connection_manager(logs), **routes},
                    }
                ]
            }
        ],
    }


def _connection_manager(logs: Path) -> dict[str, object]:
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": STAT_PREFIX,
        # Callers are outside: Envoy then drops their x-envoy-* headers, with which they could set timeouts and retries.
        # An empty list would mean every private address, so the one that is inside is one that nobody has (RFC 5737)
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 32}]},
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {"@type": f"{TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig", "pack_trace_reason": False}
        },
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "request_timeout": "30s",
        "request_headers_timeout": "10s",
        "access_log": [_log_file(logs / ACCESS_LOG, ACCESS_LOG_FORMAT)],
        "local_reply_config": {"mappers": [_nobody_left_as_json(), _refusal_as_json()]},
        "http_filters": [
            {
                # A retry needs the whole request, and a slow caller must not look like a slow revision
                "name": "envoy.filters.http.buffer",
                "typed_config": {"@type": f"{TYPE}.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": LARGEST_REQUEST},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{TYPE}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                    "upstream_log": [_log_file(logs / ATTEMPTS_LOG, ROUTER_LOG_FORMAT)],
                },
            },
        ],
    }


def _nobody_left_as_json() -> dict[str, object]:
    """Say of a request that must stay within a residency that nobody there can answer it."""
    found: list[dict[str, object]] = [
        {"response_flag_filter": {"flags": ["UH"]}},
        {"header_filter": {"header": {"name": RESIDENCY_HEADER, "present_match": True}}},
    ]
    says = f"no region of residency '%REQ({RESIDENCY_HEADER}):40%' can answer now; the request was answered nowhere"
    return {"filter": {"and_filter": {"filters": found}}, "body_format_override": {"json_format": {**REFUSED, "error": says}}}


def _refusal_as_json() -> dict[str, object]:
    """Give every answer that Envoy makes itself as JSON: what is wrong, Envoy's own reason, and the request's id."""
    return {
        "filter": {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "convoy.refusals"}}}},
        "body_format_override": {"json_format": REFUSED},
    }


def _log_file(path: Path, fields: Mapping[str, str]) -> dict[str, object]:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(path),
            "log_format": {"json_format": dict(fields)},
        },
    }
