from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from clouds.local.supervisor import ProcessState, Supervisor
from control.stack.down import down
from control.stack.marked import marked
from control.stack.up import up
from control.stack.view import StackView, view
from fleet.home import Home
from fleet.settings import Settings
from fleet.stack import Stack, read_stack
from flows.house import House
from support.postgresql import MISSING, PASSWORD, postgresql_programs
from support.stack import TestStack, toy_fleet, write_fleet

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
NAMES = {"prefect", "mlflow", "control", "edge", "agent", "meter", "runner"}


@dataclass
class Started:
    """A stack started by a test, and what `up` reported."""

    settings: Settings
    views: list[StackView] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def up(self) -> StackView:
        found = up(self.settings, self.said.append)
        self.views.append(found)
        return found

    @property
    def home(self) -> Home:
        return Home.of(self.settings)

    @property
    def stack(self) -> Stack:
        return read_stack(self.home)

    def pids(self) -> dict[str, int | None]:
        return {process.name: process.pid for process in Supervisor.of(self.home).processes()}


@pytest.fixture(scope="module")
def make() -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def start(ledger_url: str | None = None) -> Started:
        # pytest's own folders are too deep for a unix socket
        made.append(Started(Settings(home=Path(tempfile.mkdtemp(prefix="cv-", dir="/tmp")), ledger_url=ledger_url)))
        return made[-1]

    yield start
    for started in made:
        down(started.settings)
        shutil.rmtree(started.settings.home)


@pytest.fixture(scope="module")
def running(make: Callable[..., Started]) -> Started:
    """A stack that two callers started at once."""
    started = make()
    with ThreadPoolExecutor(2) as pool:
        for caller in [pool.submit(started.up) for _ in range(2)]:
            caller.result()
    return started


@pytest.mark.long
def test_two_callers_at_once_get_one_healthy_stack(running: Started) -> None:
    first, second = running.views[:2]
    assert first.stack_id == second.stack_id
    assert {component.name for component in second.components if component.healthy} == NAMES
    supervisors = [process for process in marked(first.stack_id) if "supervisor.supervisord" in process.cmdline()]
    assert len(supervisors) == 1


def test_up_again_leaves_every_process_alone_and_is_quick(running: Started) -> None:
    before = running.pids()
    began = time.monotonic()
    running.up()
    assert time.monotonic() - began < 10
    assert running.pids() == before


def test_versions_are_those_of_the_running_servers(running: Started) -> None:
    versions = {component.name: component.version for component in view(running.settings).components}
    assert all(versions[name] for name in NAMES)


def test_a_component_that_is_down_is_seen_and_repaired(running: Started) -> None:
    Supervisor.of(running.home).stop("agent")
    seen = {component.name: component for component in view(running.settings).components}
    assert not seen["agent"].healthy
    assert seen["agent"].reason
    assert running.up().healthy
    assert Supervisor.of(running.home).state("agent") in (ProcessState.STARTING, ProcessState.RUNNING)


def test_every_listener_is_on_loopback(running: Started) -> None:
    ours = marked(running.stack.stack_id)
    listening = [c for process in ours for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_secrets_are_on_no_command_line_and_in_no_log(running: Started) -> None:
    files = (running.home.credentials_file, running.home.operators_file)
    secrets = [secret for file in files for secret in json.loads(file.read_text()).values()]
    assert running.home.operators_file.stat().st_mode & 0o777 == 0o600
    shown = " ".join(" ".join(process.cmdline()) for process in marked(running.stack.stack_id))
    shown += " ".join(running.said) + "".join(log.read_text(errors="replace") for log in running.home.logs.iterdir())
    assert not any(secret in shown for secret in secrets)
    assert running.home.root.stat().st_mode & 0o777 == 0o700


def test_the_work_pool_and_the_deployments_are_known_to_prefect(running: Started) -> None:
    api = f"{running.stack.prefect_url}/api"
    assert httpx.get(f"{api}/work_pools/{running.settings.work_pool}").json()["type"] == "process"
    deployments = {found["name"] for found in httpx.post(f"{api}/deployments/filter", json={}).json()}
    assert {"release", "rollback", "reconcile"} <= deployments


@pytest.fixture(scope="module")
def beside(running: Started, make: Callable[..., Started], request: pytest.FixtureRequest) -> Started:
    """A second stack; its ledger is on PostgreSQL where that is installed."""
    there = postgresql_programs() is not None
    other = make(ledger_url=request.getfixturevalue("postgresql").url() if there else None)
    write_fleet(other.home, toy_fleet(("shared",), ("us-east-1",)))
    assert other.up().healthy
    return other


@pytest.mark.long
def test_a_release_on_a_stack_whose_ledger_is_postgresql_ends_promoted_and_the_password_is_seen_nowhere(beside: Started) -> None:
    if beside.settings.ledger_url is None:
        pytest.skip(MISSING)
    stack = TestStack(beside.settings, House(beside.settings, beside.home))
    done = stack.convoy("release", "shared", "--version", stack.register("shared"), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["phase"] == "promoted"
    assert stack.house.ledger.database.url.get_backend_name() == "postgresql"
    assert len(stack.house.ledger.stream("release/shared-1")) > 20
    verified = stack.convoy("ledger", "verify", "--json")
    assert json.loads(verified.stdout)["verified"] is True
    assert not stack.house.home.ledger_file.exists()
    shown = done.stdout + done.stderr + verified.stdout + stack.convoy("status").stdout + stack.convoy("ledger", "show").stdout
    shown += "".join(log.read_text(errors="replace") for log in beside.home.logs.iterdir())
    quoted = beside.settings.ledger_url.split(":")[2].split("@")[0]
    assert not any(secret in shown for secret in (PASSWORD, quoted))
    ours = marked(beside.stack.stack_id)
    assert not any(secret in " ".join(process.cmdline()) for process in ours for secret in (PASSWORD, quoted))
    told = {process.pid for process in ours if quoted in process.environ().get("CONVOY_LEDGER_URL", "")}
    served = {process.pid for process in ours if "convoy_service" in process.cmdline()}
    assert told
    assert served
    assert not told & served
    databases = [file for file in (beside.home.prefect, beside.home.mlflow) for file in file.glob("*.db*")]
    assert databases
    assert not any(secret.encode() in file.read_bytes() for file in databases for secret in (PASSWORD, quoted))


@pytest.mark.long
def test_a_second_home_stands_beside_the_first_and_leaves_nothing_though_its_supervisor_was_killed(
    running: Started, beside: Started
) -> None:
    other = beside
    assert other.stack.port_base != running.stack.port_base
    psutil.Process(Supervisor.of(other.home).pid()).send_signal(signal.SIGKILL)

    stopped = down(other.settings)

    assert len(stopped) >= len(NAMES)
    assert marked(other.stack.stack_id) == []
    assert view(running.settings).healthy
    assert down(other.settings) == ()


def test_down_stops_everything_and_the_next_up_is_the_same_stack(running: Started) -> None:
    before = running.stack
    stopped = down(running.settings)
    assert {*NAMES, "supervisord"} <= set(stopped)
    assert marked(before.stack_id) == []
    assert running.up().healthy
    assert running.stack == before


@pytest.mark.long
def test_a_work_pool_of_another_type_is_left_as_it_is_gets_the_deployments_and_has_workers_of_its_own(running: Started) -> None:
    """The last one here: the stack's flows belong to the other pool afterwards."""
    api = f"{running.stack.prefect_url}/api"
    template = {"job_configuration": {"image": "{{ image }}"}, "variables": {"properties": {"image": {"type": "string"}}}}
    made = httpx.post(f"{api}/work_pools/", json={"name": "elsewhere", "type": "kubernetes", "base_job_template": template}).json()
    moved = Started(running.settings.model_copy(update={"work_pool": "elsewhere"}))
    assert {component.name for component in moved.up().components if component.healthy} == NAMES - {"runner"}
    found = httpx.get(f"{api}/work_pools/elsewhere").json()
    assert (found["id"], found["type"], found["base_job_template"]) == (made["id"], "kubernetes", template)
    pools = {each["name"]: each["work_pool_name"] for each in httpx.post(f"{api}/deployments/filter", json={}).json()}
    assert set(pools.values()) == {"elsewhere"}, pools
    assert "runner" not in running.pids()
    assert "of type kubernetes and has workers of its own" in " ".join(moved.said)
    moved.said.clear()
    assert moved.up().healthy
    assert "deployments applied" not in " ".join(moved.said)
