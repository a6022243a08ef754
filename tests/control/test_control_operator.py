"""What an operator sees of a running stack: the doctor's word and the watch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from clouds.local.supervisor import Supervisor
from control.doctor.examine import CHECKS, examine
from control.doctor.findings import Level
from control.stack.components import Site
from control.stack.orchestrator import remove_surplus
from control.stack.prefect_server import declared_schedules, known_deployments, scheduled_runs
from control.stack.view import Prober
from control.watched import moment_of
from control.watching import picture
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(stack: TestStack) -> Site:
    house = stack.house
    return Site(house.home, house.settings, house.stack, house.credentials)


def examined(stack: TestStack, *names: str) -> dict[str, Any]:
    """Return the doctor's findings on this stack, by subject; of some checks or of all."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.environment.items():
            if name.startswith("CONVOY_"):
                patch.setenv(name, value)
        chosen = {name: check for name, check in CHECKS.items() if not names or name in names}
        return {found.subject: found for found in examine(chosen, limit=60)[1]}


def test_what_runs_on_a_schedule_is_on_prefects_calendar(site: Site) -> None:
    for name in declared_schedules():
        assert wait_until(lambda name=name: scheduled_runs(site, name), 90, what=f"{name} is on the calendar")  # type: ignore[misc]


def test_the_doctor_finds_a_healthy_stack_without_a_problem(stack: TestStack) -> None:
    # What other tests did to their own models is theirs, and keeps reconcile busy
    names = [name for name in CHECKS if name not in ("releases", "regions", "edges", "aliases", "stored", "schedules")]
    # Prefect learns of a worker from its heartbeat, which comes up to half a minute after its start
    wait_until(lambda: "no worker that is online" not in str(examined(stack, "work pool")), 90, what="the worker is online")
    found = examined(stack, *names)
    assert {subject: told.reason for subject, told in found.items() if told.level is Level.PROBLEM} == {}
    assert {told.check for told in found.values()} >= set(names)


def test_the_doctor_names_the_component_that_is_down_and_where_it_logs(stack: TestStack) -> None:
    supervisor = Supervisor.of(stack.house.home)
    supervisor.stop("agent")
    try:
        found = examined(stack, "components", "edges")
    finally:
        supervisor.start("agent")
    assert found["agent"].level is Level.PROBLEM
    assert "the supervisor says it is stopped" in found["agent"].reason
    assert str(stack.house.home.logs / "agent.log") in found["agent"].remedy
    assert found["edge 'edge'"].level is Level.PROBLEM
    assert found["edge"].level is Level.OK
    wait_until(lambda: examined(stack, "components")["agent"].level is Level.OK, 60, what="the agent is back")


def made(url: str, wish: dict[str, Any]) -> str:
    """Have Prefect make something, and return its id; its SQLite database may be locked for a while."""
    answers: list[httpx.Response] = []

    def asked() -> bool:
        answers.append(httpx.post(url, json=wish, timeout=20))
        return answers[-1].is_success

    wait_until(asked, 60, what=f"Prefect takes {wish}")
    return str(answers[-1].json()["id"])


def test_a_deployment_that_prefect_yaml_has_no_more_is_deleted_and_those_of_others_stay(site: Site) -> None:
    api = f"{site.stack.prefect_url}/api"
    flow = made(f"{api}/flows/", {"name": "forgotten"})
    kinds = {"gone": (["convoy"], "flows/gone.py:gone"), "tagged": (["convoy"], "elsewhere/x.py:x"), "other": ([], "flows/other.py:other")}
    ids = {}
    for name, (tags, entrypoint) in kinds.items():
        wish = {"name": name, "flow_id": flow, "tags": tags, "entrypoint": entrypoint}
        ids[name] = made(f"{api}/deployments/", wish)
    before = {found.name for found in known_deployments(site)}
    try:
        assert remove_surplus(site) == ("gone",)
        assert {found.name for found in known_deployments(site)} == before - {"gone"}
        assert [httpx.get(f"{api}/deployments/{ids[name]}", timeout=20).status_code for name in kinds] == [404, 200, 200]
    finally:
        httpx.delete(f"{api}/flows/{flow}", timeout=20)


def test_a_watch_tells_one_document_per_tick_and_ends_cleanly_when_interrupted(stack: TestStack) -> None:
    command = [sys.executable, "-m", "control.cli", "status", "--watch", "--json", "--interval", "0.2"]
    watch = subprocess.Popen(
        command,
        cwd=ROOT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As at a terminal, also where these tests run in the background and ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert watch.stdout is not None
    first, second = (json.loads(watch.stdout.readline()) for _ in range(2))
    watch.send_signal(signal.SIGINT)
    _, said = watch.communicate(timeout=30)
    assert (watch.returncode, said) == (0, "")
    assert first["at"] < second["at"]
    assert {component["name"] for component in first["components"] if component["healthy"]} >= {"prefect", "mlflow", "edge", "agent"}
    assert set(first["regions"]) == set(stack.house.fleet.regions)


def test_a_watch_goes_on_when_the_edges_agent_is_away_and_says_so_in_its_place(stack: TestStack) -> None:
    from rich.console import Console

    supervisor = Supervisor.of(stack.house.home)
    supervisor.stop("agent")
    try:
        with Prober() as prober:
            moment = moment_of(stack.house, prober)
    finally:
        supervisor.start("agent")
    (agent,) = [component for component in moment.components if component.name == "agent"]
    assert (agent.healthy, moment.problems) == (False, {})
    console = Console(width=200, record=True, file=StringIO())
    console.print(picture(moment))
    assert "agent: does not answer" in console.export_text()
    wait_until(lambda: examined(stack, "components")["agent"].level is Level.OK, 60, what="the agent is back")
