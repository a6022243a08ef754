"""Before a worker starts, what schedules missed meanwhile is dropped, but for the newest; what people asked for stays."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from control import runner

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


class Prefect:
    """A server's calendar behind its REST API, answered a page at a time."""

    def __init__(self, *runs: tuple[str, str, timedelta, bool]) -> None:
        self.runs, self.cancelled = runs, list[str]()

    def answer(self, request: httpx.Request) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content)
        if request.url.path == "/api/flow_runs/filter":
            before = datetime.fromisoformat(body["flow_runs"]["expected_start_time"]["before_"])
            assert body["flow_runs"]["state"] == {"type": {"any_": ["SCHEDULED"]}}
            late = sorted((late, name, place, auto) for name, place, late, auto in self.runs if NOW - late < before)
            page = late[body["offset"] : body["offset"] + body["limit"]]
            return httpx.Response(200, json=[{"id": name, "deployment_id": place, "auto_scheduled": auto} for _, name, place, auto in page])
        assert (body["state"]["type"], body["force"]) == ("CANCELLED", True)
        self.cancelled.append(request.url.path.split("/")[3])
        return httpx.Response(200, json={})

    def client(self, **_: object) -> httpx.Client:
        return REAL(base_url="http://127.0.0.1:1/api", transport=httpx.MockTransport(self.answer))


REAL = httpx.Client


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


def test_of_a_night_of_missed_runs_only_the_newest_of_each_schedule_is_left() -> None:
    night = [(f"reconcile-{ago}", "reconcile", minutes(ago), True) for ago in range(1, 481)]
    days = [(f"drift-{ago}", "monitor_drift", minutes(1440 * ago), True) for ago in (1, 2, 3)]
    server = Prefect(*night, *days)
    with server.client() as api:
        assert runner.drop_missed(api, NOW) == 479 + 2
    left = {name for name, *_ in (*night, *days)} - set(server.cancelled)
    assert left == {"reconcile-1", "drift-1"}


def test_what_somebody_asked_for_and_what_is_not_late_stays() -> None:
    asked = [(f"release-{ago}", "release", minutes(ago), False) for ago in (5, 6, 7)]
    coming = [("reconcile-next", "reconcile", -minutes(1), True), ("reconcile-now", "reconcile", timedelta(seconds=5), True)]
    server = Prefect(*asked, *coming, ("reconcile-late", "reconcile", minutes(3), True))
    with server.client() as api:
        assert runner.drop_missed(api, NOW) == 0
    assert server.cancelled == []


@pytest.mark.parametrize("code", [200, 500])
def test_the_worker_is_started_whether_or_not_the_calendar_can_be_cleared(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    began = list[list[str]]()
    transport = httpx.MockTransport(lambda _: httpx.Response(code, json=[]))
    monkeypatch.setattr(runner.httpx, "Client", lambda **_: REAL(base_url="http://127.0.0.1:1/api", transport=transport))
    monkeypatch.setattr(runner.os, "execv", lambda _, command: began.append(command))
    runner.main("http://127.0.0.1:1/api", ["--pool", "convoy"])
    assert began == [[sys.executable, "-P", "-m", "prefect", "worker", "start", "--pool", "convoy"]]
    assert ("0 runs" in capsys.readouterr().out) is (code == 200)
