"""The floor of a weight change: Envoy alone, from the rename of its routes file to the first answer that follows it."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

import httpx

from traffic.envoy import LOOPBACK
from traffic.gateway import GatewayFiles, envoy_command

TYPE = "type.googleapis.com/envoy"
READY_SECONDS = 10.0


def renamed_to_answered(folder: Path, times: int) -> list[float]:
    """Return the seconds of each change."""
    listener, admin = _free_ports(2)
    _write_routes(folder, "0")
    _write(folder / "lds.json", {"resources": [_listener(folder, listener)]})
    bootstrap = GatewayFiles(folder).bootstrap
    bootstrap.parent.mkdir()
    _write(bootstrap, _bootstrap(folder, admin))
    process = subprocess.Popen(envoy_command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{listener}", trust_env=False) as client:
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


def _listener(folder: Path, port: int) -> dict[str, object]:
    manager = {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "floor",
        "rds": {"route_config_name": "main", "config_source": _source(folder / "rds.json")},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}}
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": "floor",
        "address": _address(port),
        "filter_chains": [{"filters": filters}],
    }


def _bootstrap(folder: Path, admin: int) -> dict[str, object]:
    return {
        "node": {"id": "floor", "cluster": "benchmark"},
        "admin": {"address": _address(admin)},
        "dynamic_resources": {"lds_config": _source(folder / "lds.json")},
    }


def _source(path: Path) -> dict[str, object]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _free_ports(count: int) -> list[int]:
    opened = [socket.create_server((LOOPBACK, 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in opened]
    finally:
        for each in opened:
            each.close()
