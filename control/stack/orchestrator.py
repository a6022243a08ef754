"""What Prefect must know before the runner starts: the work pool, and the deployments of prefect.yaml."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from clouds.local.files import write_private
from control.stack.components import PROCESSES, ROOT, Site, deploying_environment, record_pool
from control.stack.prefect_server import WorkPool, ask, declared_deployments, known_deployments, work_pool
from fleet.errors import OperationFailed

DEPLOY_SECONDS = 120


def ensure_deployments(site: Site, report: Callable[[str], None]) -> WorkPool:
    """Have the work pool, and prefect.yaml applied to it as it is now; what was applied already is left alone.

    Returns the pool. Raises OperationFailed with Prefect's words.
    """
    pool = ensure_work_pool(site)
    record_pool(site, pool.type)
    if applied(site, pool):
        return pool
    wanted = _digest(site, pool)
    _deploy(site)
    for name in remove_surplus(site):
        report(f"prefect: deployment {name} deleted, prefect.yaml has it no more")
    write_private(applied_file(site), wanted.encode())
    report(f"prefect: deployments applied to the work pool {site.settings.work_pool}")
    return pool


def applied(site: Site, pool: WorkPool) -> bool:
    """Whether Prefect was given the deployments as prefect.yaml and the flows are now, on this pool."""
    file = applied_file(site)
    return file.exists() and file.read_text() == _digest(site, pool)


def remove_surplus(site: Site) -> tuple[str, ...]:
    """Delete the deployments of ours that prefect.yaml has no more and return their names; others' are left alone."""
    declared = declared_deployments()
    surplus = [found for found in known_deployments(site) if declared.get(found.name) != found.entrypoint]
    for found in surplus:
        ask(site, "DELETE", f"/deployments/{found.id}")
    return tuple(found.name for found in surplus)


def ensure_work_pool(site: Site) -> WorkPool:
    """Return the work pool; one that is there is left as it is, whatever its type, and a missing one is made for processes.

    The first worker fills in its job template.
    """
    known = work_pool(site)
    if known is not None:
        return known
    return WorkPool.model_validate_json(ask(site, "POST", "/work_pools/", {"name": site.settings.work_pool, "type": PROCESSES}).content)


def _deploy(site: Site) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=deploying_environment(site),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEPLOY_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as problem:
        raise OperationFailed(
            "prefect deploy --all", f"took longer than {DEPLOY_SECONDS:g} seconds", "Look at Prefect's log, then run `convoy up` again."
        ) from problem
    if done.returncode != 0:
        raise OperationFailed("prefect deploy --all", (done.stdout + done.stderr).strip()[-1500:], "Correct prefect.yaml or the flow.")


def applied_file(site: Site) -> Path:
    """Return where the digest of what was applied stands."""
    return site.home.prefect / "applied"


def _digest(site: Site, pool: WorkPool) -> str:
    """Return the digest of everything that the deployments are made from: the file, the flows, the pool, the place."""
    digest = hashlib.sha256(f"{site.settings.work_pool}\0{pool.id}\0{ROOT}\0".encode())
    for file in (ROOT / "prefect.yaml", *sorted(Path(ROOT / "flows").rglob("*.py"))):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"
