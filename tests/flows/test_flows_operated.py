"""People command releases on the real stack: paused, cancelled in Prefect, extended, promoted, aborted, approved."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from control.stack.components import Site
from control.stack.prefect_server import ask
from fleet.commands import Command
from fleet.operators import DEFAULT, Pass, make_pass, read_operators
from flows.house import House
from flows.operating import Commanded, Wish, operate
from flows.orders import OBEYED
from support.stack import ROOT, write_fleet
from support.waiting import wait_until

if TYPE_CHECKING:
    from control.views import ReleaseView
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
MODEL = "operated"
LONG = {"steps": [{"weight": 20, "seconds": 600}, {"weight": 50, "seconds": 600}], "max_seconds": 1200}
"""A canary that goes nowhere unless somebody says so."""
QUICK = {"steps": [{"weight": 20, "seconds": 1}], "max_seconds": 60}
TELL = f"from flows.release import release\nrelease({MODEL!r})"


def declared(stack: TestStack, **changes: Any) -> House:
    """Have fleet.yaml say something else of the model, and return the house as it is then."""
    file = stack.house.home.fleet_file
    fleet = json.loads(file.read_text())
    fleet["models"][MODEL] |= changes
    write_fleet(stack.house.home, fleet)
    return House(stack.settings, stack.house.home)


def command(house: House, name: str, **more: Any) -> Commanded:
    token = read_operators(house.home).token_of(DEFAULT)
    return operate(house, Wish(MODEL, name, f"the test wants to {name}", **more), token, "a test")


def site(stack: TestStack) -> Site:
    house = stack.house
    return Site(house.home, house.settings, house.stack, house.credentials)


def runs(stack: TestStack, deployment: str, *states: str) -> list[dict[str, Any]]:
    """Return the runs of a deployment for this model, newest first."""
    wish = {"deployments": {"name": {"any_": [deployment]}}, "flow_runs": {"state": {"type": {"any_": states}}}, "sort": "START_TIME_DESC"}
    found = ask(site(stack), "POST", "/flow_runs/filter", wish).json()
    return [run for run in found if run["parameters"].get("model") == MODEL]


def weights_of(stack: TestStack, digest: str | None) -> float:
    """Return the share that the edge's Envoy reports for a revision."""
    state = stack.house.edges[0].state().of(MODEL)
    assert state is not None
    return state.percent_of(str(digest)) or 0


def obeyed(stack: TestStack, release: str) -> list[str]:
    return [str(event.payload["command"]) for event in stack.house.ledger.stream(f"release/{release}", OBEYED)]


def looked_at(stack: TestStack, release: str, times: int) -> None:
    """Wait until a canary was looked at some more times."""
    stream = f"release/{release}"
    until = len(stack.house.ledger.stream(stream, "canary.judged")) + times
    wait_until(lambda: len(stack.house.ledger.stream(stream, "canary.judged")) >= until, 40, what=f"{times} more looks at {release}")


def under_canary(stack: TestStack, number: int) -> str:
    """Wait until a model's n-th release has its first share of requests; returns its name."""

    def reached() -> bool:
        views = stack.releases(MODEL)
        assert len(views) < number or not views[-1].ended, views[-1].reasons
        return len(views) == number and views[-1].phase == "canary"

    wait_until(reached, 120, what="a canary")
    looked_at(stack, newest(stack).release, 1)
    return newest(stack).release


def newest(stack: TestStack) -> ReleaseView:
    return stack.releases(MODEL)[-1]


@pytest.fixture(scope="module")
def served(stack: TestStack) -> TestStack:
    """The stack with version 1 of the model."""
    declared(stack, canary=LONG)
    done = stack.release(MODEL, stack.register(MODEL))
    assert done.returncode == 0, done.stderr
    assert newest(stack).phase == "promoted", newest(stack).reasons
    return stack


def in_prefect(stack: TestStack, release: str, wanted: Command) -> Callable[[], dict[str, Any]]:
    """Give a command as a person does in Prefect's UI; returns how to look at its run."""
    token = read_operators(stack.house.home).token_of(DEFAULT)
    made = make_pass(token, Pass(release, wanted, int(time.time()) + 300, uuid.uuid4().hex))
    deployment = ask(site(stack), "GET", "/deployments/name/operate/operate").json()["id"]
    given = {"model": MODEL, "command": wanted.value, "reason": "the test wants it", "token": made}
    run = ask(site(stack), "POST", f"/deployments/{deployment}/create_flow_run", {"parameters": given}).json()["id"]
    return lambda: ask(site(stack), "GET", f"/flow_runs/{run}").json()


@pytest.mark.long
def test_a_release_that_is_cancelled_in_prefect_is_taken_up_by_reconcile_and_does_what_was_ordered_meanwhile(served: TestStack) -> None:
    version = served.register(MODEL, offset=1.0)
    weights = set()
    with served.load(MODEL) as load:
        served.candidate(MODEL, version)
        release = under_canary(served, 2)
        digest = newest(served).digest
        command(served.house, "pause")
        wait_until(lambda: obeyed(served, release) == ["pause"], 20, what="the pause is obeyed")
        looked_at(served, release, 3)
        assert weights_of(served, digest) == 20
        (run,) = runs(served, "release", "RUNNING")
        ask(site(served), "POST", f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
        wait_until(lambda: served.house.leases.current(MODEL) is None, 30, what="the cancelled run's process is gone")
        assert newest(served).phase == "canary"
        ordered = in_prefect(served, release, Command.ABORT)
        reconciled = served.flow("reconcile()")
        assert (
            f"{release} (version {version}) is unfinished" in reconciled.stdout
            or newest(served).ended
            or served.house.leases.current(MODEL)
        )
        view = wait_until(lambda: weights.add(weights_of(served, digest)) or (newest(served) if newest(served).ended else None), 90, 0.2)
    assert (view.phase, view.reasons[0]) == ("rolled back", f"aborted by operator {DEFAULT}: the test wants it")
    assert obeyed(served, release) == ["pause", "abort"]
    assert weights <= {0, 20}
    assert load.failed() == []
    assert served.house.target("us-east-1").status_of("us-east-1", MODEL, str(digest)).state.value == "absent"
    done = wait_until(lambda: ordered() if ordered()["state"]["type"] == "COMPLETED" else None, 30, what="the operate run has completed")
    assert done["parameters"]["token"] == "not kept"


@pytest.mark.long
def test_an_operator_extends_and_promotes_a_canary_that_is_nowhere_near_its_end(served: TestStack) -> None:
    before = len(served.releases(MODEL))
    version = served.register(MODEL, offset=2.0)
    with served.load(MODEL) as load:
        served.want(MODEL, version)
        # Where the runner is still at the model, it tells this release as well
        telling = subprocess.Popen(
            [sys.executable, "-c", TELL], cwd=ROOT, env=served.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        release = under_canary(served, before + 1)
        token = served.house.home.root / "token"
        token.write_text(read_operators(served.house.home).token_of(DEFAULT))
        headers = {"authorization": f"Bearer {token.read_text()}"}
        wish = {"model": MODEL, "command": "extend", "reason": "rush hour", "seconds": 60}
        assert httpx.post(f"{served.house.stack.control_url}/commands", json=wish, headers=headers, timeout=20).status_code == 202
        done = served.convoy("operate", MODEL, "promote", "--reason", "we know it", "--token-file", str(token))
        assert done.returncode == 0, done.stderr
        view = served.ended(MODEL, before + 1)
        assert telling.wait(60) == 0
    assert view.phase == "promoted", view.reasons
    assert obeyed(served, release) == ["extend", "promote"]
    (promoting,) = [phase for phase in view.phases if phase.phase == "promoting"]
    assert promoting.reasons == (f"promoted now by operator {DEFAULT}: we know it",)
    assert weights_of(served, view.digest) == 100
    assert load.failed() == []


def idle(stack: TestStack) -> None:
    """Wait until the runner has nothing left to do for the model."""
    wait_until(lambda: not runs(stack, "release", "SCHEDULED", "PENDING", "RUNNING"), 60, what="the runner has nothing left to do")


@pytest.mark.long
def test_an_approval_holds_no_process_and_lets_the_release_go_on(served: TestStack) -> None:
    house, before = declared(served, approval={"required": True, "within_seconds": 600}, canary=QUICK), len(served.releases(MODEL))
    idle(served)
    try:
        with served.load(MODEL):
            done = served.release(MODEL, served.register(MODEL, offset=3.0))
            assert (done.returncode, "awaiting approval" in done.stdout) == (0, True), done.stderr
            assert house.leases.current(MODEL) is None
            asked = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED")
            wait_until(lambda: runs(served, "approval", *asked), 90, what="somebody is asked, by the release or by reconcile")
            assert weights_of(served, newest(served).digest) == 0
            command(house, "approve", digest=newest(served).digest)
            assert served.ended(MODEL, before + 1).phase == "promoted"
        wait_until(lambda: not runs(served, "approval", "PAUSED"), 30, what="nobody is asked any more")
    finally:
        declared(served, approval={"required": False}, canary=LONG)


@pytest.mark.long
def test_an_approval_is_denied_by_resuming_the_run_that_lies_on_the_desk(served: TestStack) -> None:
    house, before = declared(served, approval={"required": True, "within_seconds": 600}), len(served.releases(MODEL))
    idle(served)
    try:
        assert served.release(MODEL, served.register(MODEL, offset=4.0)).returncode == 0
        release = newest(served).release
        (run,) = wait_until(lambda: runs(served, "approval", "PAUSED"), 120, what="a suspended run")
        token = read_operators(house.home).token_of(DEFAULT)
        made = make_pass(token, Pass(release, Command.DENY, int(time.time()) + 300, uuid.uuid4().hex))
        typed = {"run_input": {"answer": "deny", "reason": "not this one", "token": made}}
        url = f"{served.house.stack.prefect_url}/api/flow_runs/{run['id']}/resume"

        def resumed() -> bool:
            """As the UI's button: Prefect may say no while its database is busy, and then it is pressed again."""
            answer = httpx.post(url, json=typed, timeout=20)
            return answer.is_success and answer.json().get("status") == "ACCEPT"

        wait_until(resumed, 60, what="Prefect takes the answer")
        view = served.ended(MODEL, before + 1)
        assert (view.phase, view.reasons) == ("rejected", (f"denied by operator {DEFAULT}: not this one",))
        kept = ask(site(served), "POST", f"/flow_runs/{run['id']}/input/filter", {"prefix": "suspended", "limit": 50}).text
        assert made not in kept
    finally:
        declared(served, approval={"required": False})
