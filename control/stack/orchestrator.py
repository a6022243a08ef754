"""What Prefect must know before the runner starts: the work pool, and the deployments of prefect.yaml."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from clouds.local.files import write_private
from control.stack.components import ROOT, Site, deploying_environment
from fleet.errors import OperationFailed, Unreachable

DEPLOY_SECONDS = 120
ANSWER_SECONDS = 10.0


def ensure_deployments(site: Site, report: Callable[[str], None]) -> None:
    """Have the work pool, and prefect.yaml applied as it is now; what was applied already is left alone.

    Raises OperationFailed with Prefect's words.
    """
    ensure_work_pool(site)
    wanted = _digest(site)
    applied = site.home.prefect / "applied"
    if applied.exists() and applied.read_text() == wanted:
        return
    _deploy(site)
    write_private(applied, wanted.encode())
    report("prefect: deployments applied")


def ensure_work_pool(site: Site) -> None:
    """Create the process work pool unless it is there; the first worker fills in its job template."""
    url = f"{site.stack.prefect_url}/api/work_pools/"
    try:
        answer = httpx.post(url, json={"name": site.settings.work_pool, "type": "process"}, timeout=ANSWER_SECONDS, trust_env=False)
    except httpx.TransportError as problem:
        raise Unreachable("Prefect", f"does not answer at {url} ({type(problem).__name__})", "Run `convoy up` again.") from problem
    if answer.status_code not in (httpx.codes.CREATED, httpx.codes.CONFLICT):
        raise OperationFailed(f"work pool '{site.settings.work_pool}'", f"Prefect answered {answer.status_code}: {answer.text[:300]}")


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


def _digest(site: Site) -> str:
    """Return the digest of everything that the deployments are made from: the file, the flows, the pool, the place."""
    digest = hashlib.sha256(f"{site.settings.work_pool}\0{ROOT}\0".encode())
    for file in (ROOT / "prefect.yaml", *sorted(Path(ROOT / "flows").rglob("*.py"))):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"
