"""What can be seen of a placed revision: the supervisor's word for its process, and the process's own answer."""

from __future__ import annotations

import httpx

from clouds.local.files import tail
from clouds.local.placements import Placement
from clouds.local.supervisor import Process, ProcessState, Supervisor
from clouds.serving import RevisionStatus, State
from fleet.headers import REVISION_HEADER

READY_PATH = "/v2/health/ready"
ANSWER_SECONDS = 2.0
LOG_BYTES = 2000
REASON_CHARACTERS = 500

LIVE = frozenset({ProcessState.STARTING, ProcessState.RUNNING})


def observe(placement: Placement, supervisor: Supervisor) -> RevisionStatus:
    """Return a revision's status; raises Unreachable when the supervisor is gone."""
    process = supervisor.process(placement.program_name)
    if process is None:
        return _status(placement, State.FAILED, "its program was written but never started; deploy it again")
    if process.state in LIVE:
        return _answer(placement)
    ended = f"its process {_ending(process)}"
    if process.state is ProcessState.BACKOFF:
        return _status(placement, State.STARTING, f"{ended} and is being started again")
    said = tail(process.log, LOG_BYTES)
    return _status(placement, State.FAILED, f"{ended}; its log ends: {said}" if said else f"{ended}; its log is empty")


def _ending(process: Process) -> str:
    if process.state is ProcessState.STOPPED:
        return "was stopped"
    if process.state is ProcessState.STOPPING:
        return "is being stopped"
    if process.exit_status is None:
        return f"did not stay up ({process.problem or 'no reason given'})"
    return f"ended with status {process.exit_status}"


def _answer(placement: Placement) -> RevisionStatus:
    """Ask the process itself whether it is ready, and which revision it is."""
    where = placement.endpoint
    try:
        # trust_env off: a proxy in the environment must not answer for a loopback port. Certificates play no part in
        # plain HTTP, and loading them takes ten times as long as the call
        answer = httpx.get(f"http://{where.host}:{where.port}{READY_PATH}", timeout=ANSWER_SECONDS, trust_env=False, verify=False)  # noqa: S501
    except httpx.HTTPError as problem:
        return _status(placement, State.STARTING, f"it does not answer yet ({type(problem).__name__})")
    seen = answer.headers.get(REVISION_HEADER)
    ready = answer.status_code == httpx.codes.OK
    if seen != placement.deployment.digest and (ready or seen is not None):
        return _status(placement, State.FAILED, f"port {where.port} answers as {seen or 'something without a revision'}", seen)
    if not ready:
        return _status(placement, State.STARTING, f"it answers {answer.status_code}: {answer.text[:REASON_CHARACTERS]}", seen)
    return _status(placement, State.READY, "", seen)


def _status(placement: Placement, state: State, reason: str, seen: str | None = None) -> RevisionStatus:
    wanted = placement.deployment
    return RevisionStatus(wanted.model, wanted.region, wanted.digest, state, placement.endpoint, seen, reason)
