"""What must answer rightly: Prefect's pool, worker and deployments, MLflow's webhook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from control.stack import prefect_server
from control.stack.orchestrator import applied, applied_file
from control.stack.prefect_server import Deployment

FRESH = "convoy up"
ONLINE = "ONLINE"
ACTIVE = "ACTIVE"
COMPLETED = "COMPLETED"
RECONCILE = "reconcile"
QUIET = timedelta(minutes=5)
"""Longer than reconcile may wait behind a busy machine; it runs every minute."""


def work_pool(case: Case) -> Iterator[Finding]:
    """Whether the work pool is there, takes runs, and has a worker that looks for them."""
    name = case.house.settings.work_pool
    subject = f"work pool '{name}'"
    pool = prefect_server.work_pool(case.site)
    if pool is None:
        yield problem(subject, "is not there, so no flow can run", FRESH)
        return
    if pool.is_paused:
        yield problem(subject, "is paused, so no flow starts", _prefect(case, f"work-pool resume {name}"))
    online = [worker.name for worker in prefect_server.workers(case.site) if worker.status == ONLINE]
    if online:
        yield ok(subject, f"worked by {', '.join(online)}")
    else:
        yield problem(subject, "has no worker that is online, so nothing that is scheduled runs", FRESH)


def deployments(case: Case) -> Iterator[Finding]:
    """Whether Prefect has the deployments of prefect.yaml as it is now, no less, no more, none of them paused."""
    declared, known = prefect_server.declared_deployments(), prefect_server.known_deployments(case.site)
    found = list(compared(declared, known, case))
    pool = prefect_server.work_pool(case.site)
    if pool is not None and not applied(case.site, pool):
        found.append(warning("deployments", "prefect.yaml or a flow has changed since it was applied", FRESH))
    yield from found or [ok("deployments", f"{', '.join(sorted(declared))} are as prefect.yaml has them")]


def compared(declared: dict[str, str], known: tuple[Deployment, ...], case: Case) -> Iterator[Finding]:
    """Yield what is missing, surplus or paused among the deployments."""
    there = {found.name: found for found in known if declared.get(found.name) == found.entrypoint}
    for name in sorted(set(declared) - set(there)):
        yield problem(f"deployment '{name}'", "is in prefect.yaml and Prefect does not know it", _apply_again(case))
    for found in known:
        if declared.get(found.name) != found.entrypoint:
            yield warning(f"deployment '{found.name}'", "is one of ours and prefect.yaml has it no more", FRESH)
    for found in there.values():
        if found.paused:
            remedy = f"curl -X POST {case.house.stack.prefect_url}/api/deployments/{found.id}/resume_deployment"
            yield problem(f"deployment '{found.name}'", "is paused, so its schedule and its events start nothing", remedy)


def triggers(case: Case) -> Iterator[Finding]:
    """Whether the automations that start a flow on an event are enabled."""
    known = prefect_server.automations(case.site)
    for name in prefect_server.declared_triggers():
        found = [automation for automation in known if automation.name == name]
        if not found:
            yield problem(f"automation '{name}'", "is not there, so only reconcile starts releases", _apply_again(case))
        elif not any(automation.enabled for automation in found):
            remedy = _prefect(case, f"automation resume {name}")
            yield problem(f"automation '{name}'", "is switched off, so only reconcile starts releases", remedy)
        else:
            yield ok(f"automation '{name}'", "is enabled")


def schedules(case: Case) -> Iterator[Finding]:
    """Whether what runs on a schedule is on Prefect's calendar, and reconcile has really run."""
    log = case.home.logs / "prefect.log"
    for name in prefect_server.declared_schedules():
        subject = f"schedule of '{name}'"
        if prefect_server.scheduled_runs(case.site, name):
            yield ok(subject, "its next runs are on Prefect's calendar")
        else:
            yield problem(subject, "Prefect has no run of it on its calendar, so it never starts", f"tail -n 40 {log}; convoy up")
    last = prefect_server.last_run(case.site, RECONCILE)
    if last is None or last.start_time is None:
        yield warning(RECONCILE, "has not run yet; it starts within a minute of the stack", f"tail -n 40 {case.home.logs / 'runner.log'}")
    elif case.now - last.start_time > QUIET:
        reason = f"last ran at {last.start_time:%Y-%m-%d %H:%M:%S} UTC, and should every minute"
        yield problem(RECONCILE, reason, f"tail -n 40 {case.home.logs / 'runner.log'}; convoy up")
    elif last.state_type != COMPLETED:
        reason = f"its last run ({last.name}) is {(last.state_type or 'unknown').lower()}"
        yield problem(RECONCILE, reason, f"tail -n 60 {case.home.logs / 'runner.log'}")
    else:
        yield ok(RECONCILE, f"ran at {last.start_time:%H:%M:%S} UTC")


def webhook(case: Case) -> Iterator[Finding]:
    """Whether MLflow tells our API about aliases."""
    url = f"{case.house.stack.control_url}/webhooks/mlflow"
    status = case.house.models.watching(url)
    if status == ACTIVE:
        yield ok("MLflow's webhook", f"tells {url}")
    else:
        reason = f"is {status.lower()}" if status else f"for {url} is not there"
        yield problem("MLflow's webhook", f"{reason}, so releases start up to a minute late", FRESH)


def _prefect(case: Case, command: str) -> str:
    """Return a command of Prefect's own, aimed at this stack."""
    return f"PREFECT_API_URL={case.house.stack.prefect_url}/api {Path(sys.executable).with_name('prefect')} {command}"


def _apply_again(case: Case) -> str:
    """Return the command that applies prefect.yaml although it was applied before."""
    return f"rm -f {applied_file(case.site)}; convoy up"
