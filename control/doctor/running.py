"""What runs: components, the regions' servers, what an earlier supervisor left, and strangers on our ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil

from clouds.local.supervisor import Supervisor
from clouds.serving import RevisionStatus, State
from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from control.stack.components import components, log_of
from control.stack.marked import marked
from control.stack.view import ComponentView, view_of
from fleet.canonical import short
from fleet.settings import NO_TELEMETRY, STACK_MARK
from fleet.stack import HOST, PORTS_IN_A_BLOCK

EVERYWHERE = ("0.0.0.0", "::", HOST, "::1", "::ffff:127.0.0.1")  # noqa: S104 - compared with, never bound


def stack_components(case: Case) -> Iterator[Finding]:
    """Whether each component answers that it is well."""
    for found in view_of(case.site).components:
        yield component(case, found)


def component(case: Case, found: ComponentView) -> Finding:
    """Return how one component is, with the supervisor's word where it is ill."""
    if found.healthy:
        return ok(found.name, f"is healthy{f', version {found.version}' if found.version else ''}, {found.url}")
    state = Supervisor.of(case.home).state(found.name).value
    remedy = f"tail -n 40 {log_of(case.home, found.name)}; convoy up"
    return problem(found.name, f"{found.reason}; the supervisor says it is {state}", remedy)


def regions(case: Case) -> Iterator[Finding]:
    """Whether each region serves each model's stable revision, and nothing that nobody wants."""
    from flows.behind import strays
    from flows.work import stable_of

    house = case.house
    for model, declared in house.fleet.models.items():
        stable = stable_of(house, model)
        if stable is None:
            yield ok(model, "no version was released yet")
            continue
        for region in declared.regions:
            yield served(case, house.target(region).status_of(region, model, stable.digest), stable.version)
            for digest in strays(house, model, region):
                yield warning(
                    f"{model} in {region}", f"{short(digest)} runs and nobody wants it; reconcile ends it", "convoy status --watch"
                )


def served(case: Case, status: RevisionStatus, version: str) -> Finding:
    """Return whether a region serves the stable revision."""
    subject = f"{status.model} in {status.region}"
    if status.state is State.READY:
        return ok(subject, f"serves version {version} ({short(status.revision)})")
    log = log_of(case.home, f"serve-{status.region}-{status.model}-{short(status.revision)}")
    reason = f"version {version} is {status.state.value}: {status.reason or status.state.meaning} Reconcile tries again every minute."
    return problem(subject, reason, f"tail -n 40 {log}")


def orphans(case: Case) -> Iterator[Finding]:
    """Whether processes carry this stack's mark that no supervisor of it keeps."""
    kept = _family(case)
    loose = [process for process in marked(case.house.stack.stack_id) if process.pid not in kept]
    names = [name for process in loose if (name := _name(process))]
    if not names:
        yield ok("orphans", "every process of this stack belongs to its supervisor")
    elif kept:
        yield warning("orphans", f"not under the supervisor, though of this stack: {', '.join(names)}", f"ps -fp {_pids(loose)}")
    else:
        yield problem("orphans", f"an earlier supervisor left behind: {', '.join(names)}; the next start ends them", "convoy up")


def strangers(case: Case) -> Iterator[Finding]:
    """Whether somebody else listens on a port of this stack."""
    base = case.house.stack.port_base
    ours = {process.pid for process in marked(case.house.stack.stack_id)}
    listening = [(found.laddr, found.pid) for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    there = {(where.port, pid) for where, pid in listening if where and where.ip in EVERYWHERE and pid not in ours}
    taken = sorted(((port, pid) for port, pid in there if base <= port < base + PORTS_IN_A_BLOCK), key=lambda found: found[0])
    for port, pid in taken:
        yield problem(f"port {port}", f"belongs to this stack and is taken by {_holder(pid)}", f"ss -ltnp 'sport = :{port}'")
    if not taken:
        yield ok("ports", f"nobody else listens from {base} to {base + PORTS_IN_A_BLOCK - 1}")


def telemetry(case: Case) -> Iterator[Finding]:
    """Whether every running component has each library's telemetry switched off."""
    pids = {process.name: process.pid for process in Supervisor.of(case.home).processes()}
    talking = []
    for name in (each.name for each in components(case.site)):
        environment = _environment(pids.get(name))
        if environment is not None and any(environment.get(key) != value for key, value in NO_TELEMETRY.items()):
            talking.append(name)
    if talking:
        yield warning("telemetry", f"is not off in {', '.join(talking)}, started by an older Convoy or by hand", "convoy down; convoy up")
    else:
        yield ok("telemetry", "is off in every component that runs")


def _family(case: Case) -> set[int]:
    """Return the supervisor with all that it started; nothing where none answers."""
    supervisor = Supervisor.of(case.home)
    if not supervisor.alive():
        return set()
    itself = psutil.Process(supervisor.pid())
    return {itself.pid, *(child.pid for child in itself.children(recursive=True))}


def _environment(pid: int | None) -> dict[str, str] | None:
    """Return a process's environment, None for one that is gone or may not be read."""
    if pid is None:
        return None
    try:
        found: dict[str, str] = psutil.Process(pid).environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return found if STACK_MARK in found else None


def _holder(pid: int | None) -> str:
    if pid is None:
        return "a process that we may not see"
    name = _name(psutil.Process(pid)) if psutil.pid_exists(pid) else ""
    return name or f"process {pid}, which has ended meanwhile"


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return f"{process.name()} (process {process.pid})"
    return ""


def _pids(processes: list[psutil.Process]) -> str:
    return ",".join(str(process.pid) for process in processes)
