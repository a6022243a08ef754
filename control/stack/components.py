"""The programs of a local stack, as a table: what runs, with which environment, and how one sees that it is well.

The regions' servers are not here: `clouds/local` adds and removes them as revisions come and go.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from clouds.local.files import write_private
from clouds.local.program import Program
from control.stack.ports import METER_OFFSET, RUNNER_OFFSET
from fleet.edges import EdgePlace, edge_places, recorded_regions
from fleet.home import Home
from fleet.settings import NO_TELEMETRY, PREFIX, PROJECT, STACK_MARK, Settings, inherited_environment
from fleet.stack import HOST, Credentials, Stack

ROOT = Path(__file__).resolve().parents[2]
"""Where prefect.yaml and the rooms lie."""
RUNNER = "runner"
PROCESSES = "process"
"""The type of a work pool whose runs are processes beside their worker."""
PYTHON = (sys.executable, "-P", "-m")


@dataclass(frozen=True, slots=True)
class Site:
    """One stack with everything that its programs are made from."""

    home: Home
    settings: Settings
    stack: Stack
    credentials: Credentials
    carried: Mapping[str, str] = field(default_factory=dict)
    """What opens the stores that lie elsewhere, from the environment of `convoy up`: for Convoy's own programs alone."""

    @property
    def edges(self) -> tuple[EdgePlace, ...]:
        """The edges that the stack was last started with."""
        return edge_places(self.stack, recorded_regions(self.home))

    def edge_token_file(self, edge: EdgePlace) -> Path:
        """Where an edge's agent finds its token."""
        return self.home.edge(edge.name) / "token"


@dataclass(frozen=True, slots=True)
class Component:
    """One program: `url` is for people, `health` answers 200 when it is well, `version` reads the answer of `version_url`.

    `stop_seconds` lie between SIGTERM and SIGKILL. One that is `held` is started by `up` when its time has come.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    url: str
    health: str
    version_url: str | None = None
    version: Callable[[httpx.Response], str] = field(default=lambda answer: answer.text.strip())
    stop_seconds: int = 8
    held: bool = False

    def program(self, site: Site) -> Program:
        """Return the component as the supervisor takes it."""
        return Program(
            name=self.name,
            command=self.command,
            directory=self.directory,
            log=log_of(site.home, self.name),
            environment=self.environment,
            autostart=not self.held,
            # Longer than an import on a busy machine: one that cannot even be imported is given up
            start_seconds=20,
            stop_seconds=self.stop_seconds,
        )


def log_of(home: Home, name: str) -> Path:
    """Return where a component logs."""
    return home.logs / f"{name}.log"


def components(site: Site) -> tuple[Component, ...]:
    """Return every program of a stack; the runner only where the work pool is one of processes."""
    return (*_servers(site), runner(site)) if _runs_flows_here(site) else _servers(site)


def record_pool(site: Site, kind: str) -> None:
    """Write down of which type the work pool is, as Prefect said."""
    write_private(_pool_file(site), json.dumps({"name": site.settings.work_pool, "type": kind}).encode())


def _runs_flows_here(site: Site) -> bool:
    """Whether the flows run as processes on this machine; a work pool that was not looked at yet is taken for such a one."""
    file = _pool_file(site)
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return known.get("name") != site.settings.work_pool or known["type"] == PROCESSES


def _pool_file(site: Site) -> Path:
    return site.home.prefect / "work-pool.json"


def _servers(site: Site) -> tuple[Component, ...]:
    return (*_desks(site), *edge_components(site), _meter(site))


def _desks(site: Site) -> tuple[Component, ...]:
    """Return what people and releases talk to: Prefect, MLflow and Convoy's own API."""
    stack = site.stack
    return (
        Component(
            name="prefect",
            command=(*PYTHON, "prefect", "server", "start", "--host", HOST, "--port", str(stack.port_base + 1)),
            environment=_prefect_server(site),
            directory=site.home.prefect,
            url=stack.prefect_url,
            health=f"{stack.prefect_url}/api/ready",
            version_url=f"{stack.prefect_url}/api/admin/version",
            version=_json_text,
        ),
        Component(
            name="mlflow",
            command=(*PYTHON, "mlflow", "server", *_mlflow_arguments(site)),
            environment=_mlflow_server(site),
            directory=site.home.mlflow,
            url=stack.mlflow_url,
            health=f"{stack.mlflow_url}/health",
            version_url=f"{stack.mlflow_url}/version",
        ),
        Component(
            name="control",
            command=(*PYTHON, "control.api"),
            environment={**_ours(site), **_prefect_client(site)},
            directory=site.home.root,
            url=stack.control_url,
            health=f"{stack.control_url}/healthz",
            version_url=f"{stack.control_url}/healthz",
            version=_version_field,
        ),
    )


def edge_components(site: Site) -> tuple[Component, ...]:
    """Return what callers talk to, each with its agent."""
    return tuple(component for edge in site.edges for component in (_gateway(site, edge), _agent(site, edge)))


def _gateway(site: Site, edge: EdgePlace) -> Component:
    from traffic.gateway import envoy_command

    return Component(
        name=edge.gateway_program,
        command=tuple(envoy_command(site.home.edge(edge.name))),
        environment=_common(site),
        directory=site.home.edge(edge.name),
        url=edge.url,
        health=f"{edge.admin_url}/ready",
        version_url=f"{edge.admin_url}/server_info",
        version=_envoy_version,
    )


def _agent(site: Site, edge: EdgePlace) -> Component:
    return Component(
        name=edge.agent_program,
        command=(*PYTHON, "traffic.agent", *_agent_arguments(site, edge)),
        environment=_common(site),
        directory=site.home.edge(edge.name),
        url=edge.agent_url,
        health=f"{edge.agent_url}/health",
        version_url=f"{edge.agent_url}/health",
        version=_version_field,
    )


def _meter(site: Site) -> Component:
    """Return what samples the use of the local regions' servers."""
    port = site.stack.port_base + METER_OFFSET
    return Component(
        name="meter",
        command=(*PYTHON, "clouds.local.meter", "--regions", str(site.home.root / "regions"), "--port", str(port)),
        environment=_common(site),
        directory=site.home.root,
        url=f"http://{HOST}:{port}",
        health=f"http://{HOST}:{port}/health",
        version_url=f"http://{HOST}:{port}/health",
        version=_version_field,
    )


def runner(site: Site) -> Component:
    """Return the worker that runs the flows of a work pool of processes."""
    port = site.stack.port_base + RUNNER_OFFSET
    return Component(
        name=RUNNER,
        # Flows share the machine with the servers that answer callers: those come first
        command=("nice", "-n", "5", *PYTHON, "control.runner", f"{site.stack.prefect_url}/api", *_worker_arguments(site)),
        environment={
            **_ours(site),
            **_prefect_client(site),
            PROJECT: str(ROOT),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        },
        directory=ROOT,
        url=f"{site.stack.prefect_url}/work-pools/work-pool/{site.settings.work_pool}",
        health=f"http://{HOST}:{port}/health",
        version_url=f"http://{HOST}:{port}/health",
        version=_installed_prefect,
        # After one SIGTERM it only waits for its runs; the ledger makes their end safe
        stop_seconds=2,
        held=True,
    )


def deploying_environment(site: Site) -> dict[str, str]:
    """Return the environment in which Prefect's command line reads prefect.yaml."""
    return {
        **_ours(site),
        **_prefect_client(site),
        PROJECT: str(ROOT),
        f"{PREFIX}WORK_POOL": site.settings.work_pool,
        "PREFECT_CLI_COLORS": "false",
    }


def _common(site: Site) -> dict[str, str]:
    return {**inherited_environment(), **NO_TELEMETRY, STACK_MARK: site.stack.stack_id, "PYTHONUNBUFFERED": "1"}


def _ours(site: Site) -> dict[str, str]:
    """Return the environment of a program of Convoy's own: the settings that this stack was started with, and what opens its stores."""
    given = site.settings.model_dump(exclude_none=True, exclude={"home", "port_base"})
    return {
        **_common(site),
        **site.carried,
        **{f"{PREFIX}{name.upper()}": str(value.absolute() if isinstance(value, Path) else value) for name, value in given.items()},
        f"{PREFIX}HOME": str(site.home.root),
    }


def _prefect_client(site: Site) -> dict[str, str]:
    return {"PREFECT_HOME": str(site.home.prefect), "PREFECT_API_URL": f"{site.stack.prefect_url}/api"}


def _prefect_server(site: Site) -> dict[str, str]:
    return {
        **_common(site),
        **_prefect_client(site),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{site.home.prefect / 'prefect.db'}",
        "PREFECT_SERVER_UI_ENABLED": "true",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # By default it unpacks its UI into its own package, which stacks share
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(site.home.prefect / "ui"),
    }


def _mlflow_server(site: Site) -> dict[str, str]:
    return {
        **_common(site),
        # Its job consumers are seven processes that outlive it
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Our API is where it sends its webhooks, and that is on loopback
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": site.credentials.mlflow_webhook_key,
    }


def _mlflow_arguments(site: Site) -> tuple[str, ...]:
    port = site.stack.port_base + 2
    return (
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", f"{HOST}:{port},localhost:{port}"),
        *("--backend-store-uri", f"sqlite:///{site.home.mlflow / 'mlflow.db'}"),
        *("--artifacts-destination", str(site.home.mlflow / "artifacts")),
    )


def _worker_arguments(site: Site) -> tuple[str, ...]:
    return (
        *("--pool", site.settings.work_pool, "--type", PROCESSES, "--name", "convoy-runner"),
        # No limit: a release holds its run for minutes, and reconcile must never wait behind one
        *("--with-healthcheck", "--install-policy", "never"),
    )


def _agent_arguments(site: Site, edge: EdgePlace) -> tuple[str, ...]:
    return (
        *("--edge", edge.name, "--folder", str(site.home.edge(edge.name)), "--token-file", str(site.edge_token_file(edge))),
        *("--port", str(edge.agent_port), "--listener-port", str(edge.port), "--admin-port", str(edge.admin_port)),
        *(("--region", edge.region) if edge.region is not None else ()),
        *("--trusted-proxies", str(site.settings.trusted_proxies)),
        *(("--keep-raw-logs",) if site.settings.keep_raw_logs else ()),
    )


def _json_text(answer: httpx.Response) -> str:
    return str(answer.json())


def _version_field(answer: httpx.Response) -> str:
    return str(answer.json()["version"])


def _installed_prefect(_: httpx.Response) -> str:
    """Return the version of the Prefect that the runner was started from, our own: a worker's answers tell none."""
    from importlib.metadata import version

    return version("prefect")


def _envoy_version(answer: httpx.Response) -> str:
    """Read `<commit>/<version>/<state>/<build>/<TLS library>`."""
    return str(answer.json()["version"]).split("/")[1]
