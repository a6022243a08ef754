"""What lies on the desk in Prefect's UI while a release waits for approval: a suspended run of the flow `approval`.

It is one door of several. The ledger has the answer, so nothing waits for this run, and nothing is lost with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

from flows.desires import Desire
from flows.showing import if_prefect_answers

DEPLOYMENT = "approval/approval"
SECONDS = 10.0
"""Longer than an artifact may take: here no traffic is held up."""
OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]
BUSY = timedelta(minutes=5)
"""A run that starts or gives its answer for longer than that died meanwhile; Prefect goes on showing it as running."""


def open_desk(desire: Desire, digest: str, until: datetime) -> None:
    """Have one run that asks for the approval of a release; without Prefect the other doors are there all the same."""
    if_prefect_answers("the approval could not be asked for", lambda: _open(desire, digest, until), SECONDS)


def close_desk(desire: Desire) -> None:
    """Take away what still asks for an approval that was given, refused or is not wanted any more."""
    if_prefect_answers("an approval could not be taken off the desk", lambda: _close(desire), SECONDS)


def _open(desire: Desire, digest: str, until: datetime) -> None:
    with get_client(sync_client=True) as client:
        if any(_alive(run) for run in _asking(client, desire, OPEN)):
            return
        wanted = {"model": desire.model, "release": desire.release, "digest": digest, "until": until.isoformat()}
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        client.create_flow_run_from_deployment(deployment.id, parameters=wanted, tags=[_tag(desire)])


def _close(desire: Desire) -> None:
    with get_client(sync_client=True) as client:
        # One that runs is just giving the answer
        for run in _asking(client, desire, [StateType.PAUSED, StateType.SCHEDULED]):
            client.set_flow_run_state(run.id, Cancelled(message="answered elsewhere, or not wanted any more"), force=True)


def _asking(client: SyncPrefectClient, desire: Desire, states: list[StateType]) -> list[FlowRun]:
    wish = FlowRunFilter(tags=FlowRunFilterTags(all_=[_tag(desire)]), state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))
    return client.read_flow_runs(flow_run_filter=wish)


def _alive(run: FlowRun) -> bool:
    state = run.state
    return state is None or state.type is not StateType.RUNNING or datetime.now(UTC) - state.timestamp < BUSY


def _tag(desire: Desire) -> str:
    return f"approval of {desire.release}"
