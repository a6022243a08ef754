"""The peer: an Envoy without Convoy, with the same servers and shares in the simplest static configuration."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_harness import Process, wait_until

from benchmarks.envoy_alone import TYPE, address, free_ports, listener, write_bootstrap
from traffic.envoy import LOOPBACK
from traffic.gateway import envoy_command

READY_SECONDS = 20.0
Shares = Mapping[str, tuple[int, Sequence[int]]]
"""Per cluster its weight, and the ports of its servers."""


class BareEnvoy:
    """One such Envoy below a folder; `log` gives it an access log in Envoy's own format."""

    def __init__(self, folder: Path, shares: Shares, log: bool = False) -> None:
        folder.mkdir(parents=True)
        self.port, admin = free_ports(2)
        write_bootstrap(folder, admin, {"static_resources": resources(self.port, shares, folder / "access.log" if log else None)})
        self.process = Process(envoy_command(folder), folder / "envoy.out")

    def start(self) -> BareEnvoy:
        """Start it, and return once it listens."""
        self.process.start()
        wait_until(self._listens, READY_SECONDS, "the bare Envoy")
        return self

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((LOOPBACK, self.port)) == 0


def resources(port: int, shares: Shares, log: Path | None) -> dict[str, Any]:
    """Return a listener with one route over weighted clusters: no retries, no health checks, no headers, and no log unless one is given."""
    weighted = [{"name": name, "weight": weight} for name, (weight, _) in shares.items()]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weighted}}}
    manager = {"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}}
    logged = {"access_log": [_log_file(log)]} if log else {}
    clusters = [_cluster(name, ports) for name, (_, ports) in shares.items()]
    return {"listeners": [listener(port, {**manager, **logged})], "clusters": clusters}


def _cluster(name: str, ports: Sequence[int]) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}}


def _log_file(path: Path) -> dict[str, Any]:
    typed = {"@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog", "path": str(path)}
    return {"name": "envoy.access_loggers.file", "typed_config": typed}
