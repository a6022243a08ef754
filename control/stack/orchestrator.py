"""What Prefect must know before the runner starts: the work pool, and the deployments of prefect.yaml."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict

from clouds.local.files import write_private
from control.stack.components import ROOT, Site, deploying_environment
from fleet.errors import OperationFailed, Unreachable

DEPLOY_SECONDS = 120
ANSWER_SECONDS = 10.0
TAG = "convoy"
OURS = "flows/"
PAGE = 200


class Deployment(BaseModel):
    """A deployment as Prefect knows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    entrypoint: str = ""
    paused: bool = False


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
    for name in remove_surplus(site):
        report(f"prefect: deployment {name} deleted, prefect.yaml has it no more")
    write_private(applied, wanted.encode())
    report("prefect: deployments applied")


def declared_deployments() -> dict[str, str]:
    """Return the entrypoint of each deployment of prefect.yaml, by name."""
    from ruamel.yaml import YAML

    document = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    return {found["name"]: found["entrypoint"] for found in document["deployments"]}


def known_deployments(site: Site) -> tuple[Deployment, ...]:
    """Return the deployments of ours that Prefect has: those with our tag whose entrypoint lies in `flows`.

    Raises Unreachable and OperationFailed with Prefect's words.
    """
    found: list[Deployment] = []
    while True:
        wish = {"deployments": {"tags": {"all_": [TAG]}}, "limit": PAGE, "offset": len(found), "sort": "NAME_ASC"}
        answer = _ask(site, "POST", "/deployments/filter", wish)
        page = [Deployment.model_validate(each) for each in answer.json()]
        found += page
        if len(page) < PAGE:
            return tuple(each for each in found if each.entrypoint.startswith(OURS))


def remove_surplus(site: Site) -> tuple[str, ...]:
    """Delete the deployments of ours that prefect.yaml has no more and return their names; others' are left alone."""
    declared = declared_deployments()
    surplus = [found for found in known_deployments(site) if declared.get(found.name) != found.entrypoint]
    for found in surplus:
        _ask(site, "DELETE", f"/deployments/{found.id}")
    return tuple(found.name for found in surplus)


def _ask(site: Site, method: str, path: str, body: object = None) -> httpx.Response:
    url = f"{site.stack.prefect_url}/api{path}"
    try:
        answer = httpx.request(method, url, json=body, timeout=ANSWER_SECONDS, trust_env=False)
    except httpx.TransportError as problem:
        raise Unreachable("Prefect", f"does not answer at {url} ({type(problem).__name__})", "Run `convoy up` again.") from problem
    if not answer.is_success:
        raise OperationFailed("Prefect", f"answered {answer.status_code} to {method} {path}: {answer.text[:300]}", "Look at its log.")
    return answer


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
