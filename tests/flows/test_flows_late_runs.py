"""Runs that a schedule meant for an earlier hour: dropped, or not made up; what somebody asked for is neither."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.types import DateTime

from flows import failover_drill, late_runs
from flows.house import House

LONGEST = timedelta(minutes=10)


class Server:
    """Knows some runs, the first of which is ours, and notes which were set to another state."""

    def __init__(self, *runs: FlowRun) -> None:
        self.runs = runs
        self.cancelled: list[UUID] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read_flow_runs(self, **_: object) -> tuple[FlowRun, ...]:
        return self.runs

    def read_flow_run(self, _: str) -> FlowRun:
        return self.runs[0]

    def set_flow_run_state(self, run: UUID, state: Any, force: bool) -> None:
        assert (state.name, force) == ("Cancelled", True)
        self.cancelled.append(run)


def run(auto_scheduled: bool, late: timedelta = timedelta()) -> FlowRun:
    return FlowRun(
        id=uuid4(), flow_id=uuid4(), auto_scheduled=auto_scheduled, expected_start_time=DateTime.instance(datetime.now(UTC) - late)
    )


def serve(monkeypatch: pytest.MonkeyPatch, *runs: FlowRun) -> Server:
    server = Server(*runs)
    monkeypatch.setattr(late_runs, "get_client", lambda sync_client: server)
    monkeypatch.setattr(late_runs, "deployment", SimpleNamespace(id=str(uuid4())))
    monkeypatch.setattr(late_runs, "flow_run", SimpleNamespace(id=str(runs[0].id)))
    return server


def test_only_what_the_schedule_made_is_dropped_and_never_the_run_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    own, scheduled, asked_for = run(True, LONGEST), run(True, LONGEST), run(False, LONGEST)
    server = serve(monkeypatch, own, scheduled, asked_for)
    assert late_runs.drop_late_runs() == 1
    assert server.cancelled == [scheduled.id]


def test_a_scheduled_drill_that_was_missed_is_not_made_up_when_the_stack_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    own, older = run(True, timedelta(days=3)), run(True, timedelta(days=10))
    server = serve(monkeypatch, own, older)
    monkeypatch.setattr(House, "open", lambda: pytest.fail("nothing is looked at"))
    assert "missed by 4320 minutes and not made up" in failover_drill.failover_drill.fn()
    assert server.cancelled == [older.id]


@pytest.mark.parametrize(("auto_scheduled", "late"), [(True, timedelta(minutes=9)), (False, timedelta(days=3))])
def test_a_drill_in_time_or_by_hand_goes_on(monkeypatch: pytest.MonkeyPatch, auto_scheduled: bool, late: timedelta) -> None:
    serve(monkeypatch, run(auto_scheduled, late))

    def opened() -> House:
        raise RuntimeError("opened")

    monkeypatch.setattr(House, "open", opened)
    with pytest.raises(RuntimeError, match="opened"):
        failover_drill.failover_drill.fn()
