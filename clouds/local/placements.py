"""Which revisions were placed where: read from the program files, which are the only record of it."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clouds.local import contained
from clouds.local.program import Program, environment_of
from clouds.serving import Deployment, Endpoint
from fleet.canonical import short
from fleet.contained import is_contained
from fleet.errors import OperationFailed
from fleet.home import Home
from fleet.settings import STACK_MARK, inherited_environment

HOST = "127.0.0.1"
PREFIX = "CONVOY_SERVICE_"
START_SECONDS = 10
START_RETRIES = 2
STOP_SECONDS = 15
"""Above the ten seconds that the service takes at most to finish what it has begun."""
UNUSED_SECONDS = 24 * 3600
"""Longer than a release may be between its service gate and its first region."""
UNFIT = (2, 3, 5)
"""Statuses with which the service ends when it can never get ready (bentos/service/errors.py): no restart helps."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A revision in a region, and the port it was given there."""

    deployment: Deployment
    port: int

    @property
    def endpoint(self) -> Endpoint:
        """Where it answers."""
        return Endpoint(HOST, self.port)

    @property
    def program_name(self) -> str:
        """What the supervisor calls it."""
        return program_name(self.deployment)

    def program(self, home: Home, stack_id: str) -> Program:
        """Return the program that serves it, keeps the rows that it answers and counts what it uses."""
        wanted = self.deployment
        root = revision_root(home, wanted)
        environment = {
            **serving_environment(wanted, root, self.port, stack_id),
            PREFIX + "CAPTURE": str(home.captured(wanted.region) / wanted.model),
            PREFIX + "USAGE": str(home.usage(wanted.region) / f"{self.program_name}.counters"),
            # none but the first of a revision's servers has to hear from MLflow
            PREFIX + "PARITY": str(parity_file(home, wanted.digest)),
        }
        return Program(
            name=self.program_name,
            command=serving_command(root),
            directory=root / "src",
            log=home.logs / f"{self.program_name}.log",
            environment=environment,
            start_retries=START_RETRIES,
            start_seconds=START_SECONDS,
            stop_seconds=STOP_SECONDS,
            final_statuses=UNFIT,
        )


def serving_command(root: Path) -> tuple[str, ...]:
    """Return the words that serve an unpacked revision: its own scoring service, or the container that it brings."""
    return contained.command() if is_contained(root) else (sys.executable, "-m", "convoy_service")


def serving_environment(deployment: Deployment, root: Path, port: int, stack_id: str) -> dict[str, str]:
    """Return the environment in which an unpacked revision serves: no credential, one thread per library."""
    return {
        **inherited_environment(),
        STACK_MARK: stack_id,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        PREFIX + "ROOT": str(root),
        PREFIX + "HOST": HOST,
        PREFIX + "PORT": str(port),
        PREFIX + "MODEL": deployment.model,
        PREFIX + "REVISION": deployment.digest,
        PREFIX + "REGION": deployment.region,
    }


def program_name(deployment: Deployment) -> str:
    """Return the supervisor's name of a deployment."""
    return f"serve-{deployment.region}-{deployment.model}-{short(deployment.digest)}"


def revision_root(home: Home, deployment: Deployment) -> Path:
    """Return the folder that a deployment's revision is unpacked into."""
    return home.revisions(deployment.region) / deployment.digest.removeprefix("sha256:")


def parity_file(home: Home, digest: str) -> Path:
    """Return what the servers of a revision, in all regions of this machine, know of how it is asked."""
    return home.parity / f"{digest.removeprefix('sha256:')}.json"


def forget_parity(home: Home) -> None:
    """Delete what is known of revisions that no region has and that nobody has started for a day."""
    kept = {parity_file(home, each.deployment.digest).name for each in placements(home.programs)}
    before = time.time() - UNUSED_SECONDS
    for file in home.parity.glob("*"):
        # another region is retired at the same time
        with suppress(FileNotFoundError):
            if file.name not in kept and file.stat().st_mtime < before:
                file.unlink()


def manifest_file(root: Path) -> Path:
    """Return where the manifest's bytes of an unpacked revision lie."""
    return root.with_name(root.name + ".manifest")


def placements(programs: Path) -> Iterator[Placement]:
    """Yield every placement of a home, in the order of their names."""
    for file in sorted(programs.glob("serve-*.conf")):
        # retired by somebody else meanwhile
        with suppress(FileNotFoundError):
            yield _read(environment_of(file))


def placement_of(programs: Path, deployment: Deployment) -> Placement | None:
    """Return a deployment's placement, None where there is none.

    Raises OperationFailed when its name is taken by another deployment: dashes may stand in regions and in models.
    """
    try:
        found = _read(environment_of(programs / f"{program_name(deployment)}.conf"))
    except FileNotFoundError:
        return None
    if found.deployment != deployment:
        raise OperationFailed(
            program_name(deployment),
            f"names model {found.deployment.model} in region {found.deployment.region} already",
            "Rename the model or the region.",
        )
    return found


def choose_port(region: str, ports: range, taken: Iterable[int]) -> int:
    """Return the first port of a region that no placement has and nobody listens on; raises OperationFailed without one."""
    used = set(taken)
    for port in ports:
        if port not in used and is_free(port):
            return port
    raise OperationFailed(f"region '{region}'", f"has no free port from {ports.start} to {ports.stop - 1}", "Retire old revisions there.")


def is_free(port: int) -> bool:
    """Say whether a server could listen on a loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def _read(environment: Mapping[str, str]) -> Placement:
    names = (PREFIX + "MODEL", PREFIX + "REGION", PREFIX + "REVISION")
    return Placement(Deployment(*(environment[name] for name in names)), int(environment[PREFIX + "PORT"]))
