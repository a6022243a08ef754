"""The one layer that tries again: Prefect's task policy, for transient errors only."""

from __future__ import annotations

from typing import Any, Final

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from fleet.errors import TransientError


def is_transient(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed for a reason that may pass by itself."""
    return isinstance(state.result(raise_on_failure=False), TransientError)


on_transient: Final[dict[str, Any]] = {"retries": 2, "retry_delay_seconds": [1, 3], "retry_condition_fn": is_transient}
