"""What is set wrongly: variables of the user's shell, permissions, the home's place, the room on the disk."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from fleet.settings import OTHERS, shell
from fleet.stack import HOST

LITTLE = 5 << 30
ALMOST_NOTHING = 1 << 30
GIB = 1 << 30
LOCALHOST = ("localhost", HOST)


def others(case: Case) -> Iterator[Finding]:
    """Whether the user's own commands of Prefect and MLflow reach the servers of this stack."""
    stack = case.house.stack
    wanted = dict(zip(OTHERS, (f"{stack.prefect_url}/api", stack.mlflow_url), strict=True))
    given = shell()
    for name, url in wanted.items():
        set_to = given.get(name)
        remedy = f"export {name}={url}"
        if set_to is None:
            yield ok(name, "is not set in your shell; Convoy does not need it, your own commands do", remedy)
        elif same_server(set_to, url):
            yield ok(name, f"leads to this stack, {url}")
        else:
            yield warning(name, f"leads your own commands to {without_password(set_to)} and not to this stack", remedy)


def same_server(one: str, other: str) -> bool:
    """Whether two URLs name the same server and path; localhost is the loopback address."""
    return _server(one) == _server(other)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@")


def permissions(case: Case) -> Iterator[Finding]:
    """Whether nobody else may read the credentials or enter the home."""
    home = case.home
    wanted = ((home.root, 0o700), (home.credentials_file, 0o600), (home.operators_file, 0o600))
    loose = [(path, mode) for path, mode in wanted if path.exists() and stat.S_IMODE(path.stat().st_mode) & ~mode]
    strange = [path for path, _ in wanted if path.exists() and path.stat().st_uid != os.getuid()]
    for path, mode in loose:
        yield problem(str(path), f"others may use it (mode {stat.S_IMODE(path.stat().st_mode):03o})", f"chmod {mode:03o} {path}")
    for path in strange:
        yield problem(str(path), "belongs to another user", f"sudo chown {os.getuid()} {path}")
    if not loose and not strange:
        yield ok("permissions", "home and credentials are the owner's alone")


def place(case: Case) -> Iterator[Finding]:
    """Whether the home lies where a supervisor can work."""
    from clouds.local.supervisor import configuration

    configuration(case.home, "looked-at")
    yield ok("home", f"{case.home.root} can hold a supervisor")


def room(case: Case) -> Iterator[Finding]:
    """Whether the disks below the home and the temporary folder have room."""
    for name, path in (("home", _existing(case.home.root)), ("temporary folder", _temporary())):
        usage = shutil.disk_usage(path)
        subject = f"disk of the {name}"
        says = f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.0f} at {path}"
        if usage.free < ALMOST_NOTHING:
            yield problem(subject, f"is nearly full: {says}", f"du -xh --max-depth=2 {path} | sort -h | tail")
        elif usage.free < LITTLE:
            yield warning(subject, f"has little room: {says}", f"du -xh --max-depth=2 {path} | sort -h | tail")
        else:
            yield ok(subject, says)


def _server(url: str) -> tuple[str, int | None, str]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    host = HOST if parts.hostname in LOCALHOST else parts.hostname or ""
    return host, port, parts.path.rstrip("/")


def _existing(path: Path) -> Path:
    """Return the folder itself or the nearest one above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _temporary() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())
