"""Envoy alone, without an agent: the floor of a weight change, and the parts of which every bare Envoy is made.

The floor goes from the rename of the routes file to the first answer that follows it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from traffic.envoy import LOOPBACK
from traffic.gateway import GatewayFiles, envoy_command

TYPE = "type.googleapis.com/envoy"
READY_SECONDS = 10.0


def renamed_to_answered(folder: Path, times: int) -> list[float]:
    """Return the seconds of each change."""
    port, admin = free_ports(2)
    _write_routes(folder, "0")
    watched = {"rds": {"route_config_name": "main", "config_source": _source(folder / "rds.json")}}
    _write(folder / "lds.json", {"resources": [{"@type": f"{TYPE}.config.listener.v3.Listener", **listener(port, watched)}]})
    write_bootstrap(folder, admin, {"dynamic_resources": {"lds_config": _source(folder / "lds.json")}})
    process = subprocess.Popen(envoy_command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}", trust_env=False) as client:
            _until(client, "0")
            return [_change(folder, client, str(number + 1)) for number in range(times)]
    finally:
        process.terminate()
        process.wait(10)


def _change(folder: Path, client: httpx.Client, wanted: str) -> float:
    began = time.monotonic()
    _write_routes(folder, wanted)
    _until(client, wanted)
    return time.monotonic() - began


def _until(client: httpx.Client, wanted: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if client.get("/").text == wanted:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise TimeoutError(f"Envoy does not answer {wanted!r}")


def _write_routes(folder: Path, answer: str) -> None:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": answer}}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    routes = {"@type": f"{TYPE}.config.route.v3.RouteConfiguration", "name": "main", "virtual_hosts": hosts}
    _write(folder / "rds.json", {"version_info": answer, "resources": [routes]})


def _write(file: Path, document: object) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.rename(file)


def listener(port: int, manager: Mapping[str, object]) -> dict[str, object]:
    """Return a listener on loopback: the simplest connection manager there is, and what `manager` adds to it, its routes above all."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}}
    typed = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "http_filters": [router],
        **manager,
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": typed}]
    return {"name": "bare", "address": address(port), "filter_chains": [{"filters": filters}]}


def write_bootstrap(folder: Path, admin: int, resources: Mapping[str, object]) -> None:
    """Write what `envoy_command` starts a folder's Envoy from."""
    file = GatewayFiles(folder).bootstrap
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, {"node": {"id": "bare", "cluster": "benchmark"}, "admin": {"address": address(admin)}, **resources})


def _source(path: Path) -> dict[str, object]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def address(port: int) -> dict[str, object]:
    """Return a port on loopback as Envoy writes it."""
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on; all differ."""
    opened = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in opened]
    finally:
        for each in opened:
            each.close()
