"""Runs of a schedule that nobody started in time: one run does the work of all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled
from prefect.types import DateTime

LATE = timedelta(seconds=30)


def drop_late_runs() -> int:
    """Cancel the scheduled runs of this deployment that should have started long ago; one run does the work of all of them.

    A run that somebody asked for, maybe with parameters of its own, is never cancelled.
    """
    if not deployment.id:
        return 0
    with get_client(sync_client=True) as client:
        late = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=DateTime.instance(datetime.now(UTC) - LATE)),
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id])),
        )
        dropped = [run for run in late if run.auto_scheduled and str(run.id) != flow_run.id]
        for run in dropped:
            client.set_flow_run_state(run.id, Cancelled(message="late: a newer run did its work"), force=True)
    return len(dropped)


def missed_by(longest: timedelta) -> timedelta | None:
    """Return by how much this run comes too late, None for one within `longest` and for any that no schedule started.

    Prefect keeps the runs of a schedule while nobody works, and hands them out as soon as somebody does.
    """
    if not deployment.id:
        return None
    with get_client(sync_client=True) as client:
        return lateness(client.read_flow_run(flow_run.id), longest, datetime.now(UTC))


def lateness(run: FlowRun, longest: timedelta, now: datetime) -> timedelta | None:
    """Return by how much a run comes too late, None when it does not; see missed_by."""
    if not run.auto_scheduled or run.expected_start_time is None:
        return None
    late = now - run.expected_start_time
    return late if late > longest else None
