"""The runner of the embedded stack: Prefect's worker, once what schedules missed is off Prefect's calendar.

While no worker runs, Prefect keeps a run for every tick of every schedule, and the first worker starts them all at
once: after a night that is hundreds of processes, and its database is locked for minutes. One run does the work of
all, so only the newest of each deployment is left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter

LATE = timedelta(seconds=30)
PAGE = 200
SECONDS = 30.0
MESSAGE = "missed while no worker ran: a newer run does its work"


class MissedRun(BaseModel):
    """What we read of a run that should have begun; `auto_scheduled` says that a schedule made it, and nobody asked for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    deployment_id: str | None
    auto_scheduled: bool = False


RUNS: TypeAdapter[tuple[MissedRun, ...]] = TypeAdapter(tuple[MissedRun, ...])


def drop_missed(api: httpx.Client, now: datetime) -> int:
    """Cancel the runs of schedules that are late, but for the newest of each deployment; returns how many.

    A run that somebody asked for is never cancelled. Raises httpx.HTTPError when Prefect does not answer as expected.
    """
    late = missed(api, now)
    newest = {run.deployment_id: run.id for run in reversed(late)}
    dropped = [run for run in late if newest[run.deployment_id] != run.id]
    for run in dropped:
        state = {"type": "CANCELLED", "name": "Cancelled", "message": MESSAGE}
        api.post(f"/flow_runs/{run.id}/set_state", json={"state": state, "force": True}).raise_for_status()
    return len(dropped)


def missed(api: httpx.Client, now: datetime) -> tuple[MissedRun, ...]:
    """Return the runs that a schedule made and nobody began in time, the newest first."""
    state = {"type": {"any_": ["SCHEDULED"]}}
    before = {"before_": (now - LATE).isoformat()}
    found: list[MissedRun] = []
    while True:
        wish = {"flow_runs": {"state": state, "expected_start_time": before}, "limit": PAGE, "offset": len(found)}
        answer = api.post("/flow_runs/filter", json=wish | {"sort": "EXPECTED_START_TIME_DESC"})
        page = RUNS.validate_json(answer.raise_for_status().content)
        found += page
        if len(page) < PAGE:
            return tuple(run for run in found if run.auto_scheduled)


def main(url: str, arguments: Sequence[str]) -> None:
    """Become Prefect's worker, with these arguments; a calendar at `url` that cannot be cleared keeps nobody from working."""
    try:
        with httpx.Client(base_url=url, timeout=SECONDS, trust_env=False) as api:
            dropped = drop_missed(api, datetime.now(UTC))
        say = f"{dropped} runs that schedules missed were dropped"
    except (httpx.HTTPError, ValueError) as problem:
        say = f"what schedules missed was not dropped: {problem}"
    sys.stdout.write(f"{say}\n")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "prefect", "worker", "start", *arguments])  # noqa: S606 - our own words alone


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
