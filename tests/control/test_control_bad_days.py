"""Bad days on the real stack: what is refused changes nothing, and a release under way ends right all the same."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from clouds.local.placements import placements
from clouds.local.supervisor import Supervisor
from control.stack.components import Site, components
from control.stack.view import Prober
from flows.desires import CHAMPION
from support.waiting import wait_until
from traffic.table import RoutingTable

if TYPE_CHECKING:
    from support.stack import Load, TestStack

pytestmark = [pytest.mark.long, pytest.mark.stack, pytest.mark.timeout(600)]
MODEL, REGION = "unlucky", "europe-west4"
ROOT = Path(__file__).parents[2]


@contextmanager
def under_way(stack: TestStack, call: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """Run a flow in a process of its own while the block runs, and to its end after it."""
    name = call.partition("(")[0]
    command = [sys.executable, "-c", f"from flows.{name} import {name}\nprint({call})"]
    with subprocess.Popen(
        command, cwd=ROOT, env=stack.environment | extra, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.said, _ = process.communicate(timeout=240)  # type: ignore[attr-defined]


@contextmanager
def away(stack: TestStack, name: str) -> Iterator[None]:
    """Have a component stopped while the block runs, and well again after it."""
    supervisor = Supervisor.of(stack.house.home)
    supervisor.stop(name)
    try:
        yield
    finally:
        supervisor.start(name)
        site = Site(stack.house.home, stack.settings, stack.house.stack, stack.house.credentials)
        (component,) = (each for each in components(site) if each.name == name)
        with Prober() as prober:
            wait_until(lambda: prober.ask([component])[0].healthy, 90, 0.3, f"{name} is well again")


@contextmanager
def little_room(folder: Path, kilobytes: int = 8) -> Iterator[None]:
    """Have a folder on a real file system of its own that is nearly full while the block runs; what is written there stays."""
    if os.getuid() != 0:
        pytest.skip("only root may mount the small disk that is to be full")
    folder.mkdir(parents=True, exist_ok=True)
    disk = Path(tempfile.mkdtemp(prefix="cv-disk-"))
    needed = sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file()) + 1024
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={needed}k", "tmpfs", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        disk.rmdir()
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        shutil.copytree(folder, disk, dirs_exist_ok=True)
        (disk / "filler").write_bytes(b"\0" * (shutil.disk_usage(disk).free - kilobytes * 1024))
        subprocess.run(["mount", "--bind", str(disk), str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    finally:
        (disk / "filler").unlink(missing_ok=True)
        shutil.copytree(disk, folder, dirs_exist_ok=True)
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


@contextmanager
def listening(port: int) -> Iterator[None]:
    with socket.socket() as server:
        # a connection of an earlier stack's server may still be winding up there
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        yield


def told_again(stack: TestStack, call: str = "", **extra: str) -> str:
    """Run a flow once no controller holds the model, and return what it printed."""
    wait_until(lambda: stack.house.leases.current(MODEL) is None, 200, what="nobody holds the model")
    done = stack.flow(call or f"release({MODEL!r})", **extra)
    return done.stdout + done.stderr


def share_of(stack: TestStack, digest: str) -> float | None:
    """Return the share of a revision as the edge's Envoy reports it."""
    state = stack.house.edges[0].state().of(MODEL)
    return state.percent_of(digest) if state else None


def table_of(stack: TestStack) -> RoutingTable | None:
    """Return the table that the edge has; how it shares out among regions besides goes with what they answer."""
    state = stack.house.edges[0].state().of(MODEL)
    return None if state is None else state.table


def share_of_canary(stack: TestStack) -> int:
    """Return the share that the edge gives to another revision than the safe one."""
    state = stack.house.edges[0].state().of(MODEL)
    safe = {share.revision for share in state.table.safe} if state else set()
    return sum(share.weight for share in state.in_force.shares if share.revision not in safe) if state else 0


def call_api(stack: TestStack, path: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"authorization": f"Bearer {stack.house.credentials.api_token}"}
    return httpx.post(f"{stack.house.stack.control_url}{path}", json=body, headers=headers, timeout=30)


def promoted_once(stack: TestStack, number: int, version: str) -> None:
    """Assert that a release ended promoted with no effect doubled, and that everything serves its version."""
    view = stack.ended(MODEL, number)
    assert view.phase == "promoted", view.reasons
    done = [event.effect_key for event in stack.house.ledger.stream(f"release/{view.release}") if event.type == "effect.completed"]
    assert len(done) == len(set(done))
    assert stack.house.models.alias(MODEL, CHAMPION) == version
    refs = {region: stack.house.region_store(region).resolve(MODEL) for region in stack.house.model(MODEL).regions}
    assert {ref.digest for ref in refs.values() if ref} == {view.digest}


def test_a_full_disk_a_taken_port_and_mlflow_away_delay_a_release_and_spoil_nothing(stack: TestStack) -> None:
    version = stack.register(MODEL)
    with stack.alone():
        with little_room(stack.house.home.region_store(REGION)):
            assert stack.release(MODEL, version).returncode == 1
            (view,) = stack.releases(MODEL)
            assert view.phase == "replicating"
            assert f"store {stack.house.home.region_store(REGION)}" in view.reasons[0]
            assert "No space left" in view.reasons[0]
            assert "has room" in view.reasons[0]
            assert not stack.house.region_store(REGION).has_blob(str(view.digest))
            assert stack.house.edges[0].state().of(MODEL) is None
            assert stack.house.models.alias(MODEL, CHAMPION) is None
        ports, used = stack.house.stack.region_ports(0), {found.port for found in placements(stack.house.home.programs)}
        taken = next(port for port in ports if port not in used)
        with listening(taken):
            told_again(stack, CONVOY_CRASH_AT="before alias:champion")
        assert taken not in {found.port for found in placements(stack.house.home.programs)}
        with away(stack, "mlflow"):
            before = (stack.house.ledger.verify(), table_of(stack))
            refused = stack.convoy("release", MODEL, "--version", version)
            assert refused.returncode == 5
            assert all(word in refused.stderr for word in ("MLflow", "did not answer", "convoy status")), refused.stderr
            assert (stack.house.ledger.verify(), table_of(stack)) == before
            assert "Unreachable" in told_again(stack)
            (view,) = stack.releases(MODEL)
            assert (view.phase, share_of(stack, str(view.digest))) == ("promoting", 100)
            assert "MLflow" in view.reasons[0]
    told_again(stack, "reconcile()")
    promoted_once(stack, 1, version)


def test_envoy_killed_in_a_canary_and_a_second_run_delay_a_release_and_spoil_nothing(stack: TestStack) -> None:
    if not any(view.phase == "promoted" for view in stack.releases(MODEL)):
        assert stack.release(MODEL, stack.register(MODEL)).returncode == 0
    stable = next(view.digest for view in stack.releases(MODEL) if view.phase == "promoted")
    version = stack.register(MODEL, offset=1.0)
    release = stack.want(MODEL, version)
    with stack.load(MODEL) as load:
        with under_way(stack, f"release({MODEL!r})"):
            wait_until(lambda: share_of_canary(stack) > 0, 200, what="the canary has requests")
            before = stack.releases(MODEL)
            again = call_api(stack, "/releases", {"model": MODEL, "version": version})
            assert (again.status_code, again.json()["release"]) == (202, release), again.text
            assert len(stack.releases(MODEL)) == len(before)
            killed = Supervisor.of(stack.house.home).process("edge")
            assert killed is not None
            assert killed.pid is not None
            os.kill(killed.pid, signal.SIGKILL)
            wait_until(lambda: stack.house.edges[0].state().envoy_ready, 30, what="the supervisor has started Envoy again")
        if not stack.releases(MODEL)[1].ended:
            told_again(stack, "reconcile()")
        promoted_once(stack, 2, version)
    assert_traffic(load, {stable, stack.releases(MODEL)[1].digest})


def test_prefect_away_in_a_canary_leaves_the_edge_safe_and_the_release_ends_right(stack: TestStack) -> None:
    if not stack.releases(MODEL):
        assert stack.release(MODEL, stack.register(MODEL)).returncode == 0
    known = len(stack.releases(MODEL))
    stable, version = stack.releases(MODEL)[-1].digest, stack.register(MODEL, offset=2.0)
    stack.want(MODEL, version)
    with stack.load(MODEL) as load:
        with under_way(stack, f"release({MODEL!r})") as flow:
            wait_until(lambda: share_of_canary(stack) > 0, 200, what="the canary has requests")
            with away(stack, "prefect"):
                wait_until(lambda: flow.poll() is not None or stack.releases(MODEL)[known].ended, 200, what="the flow has ended either way")
                wait_until(lambda: share_of_canary(stack) == 0, 20, what="no unproven share is left")
                asked = stack.convoy("release", MODEL, "--version", version)
                assert asked.returncode == (2 if stack.releases(MODEL)[known].ended else 0), asked.stderr
        if not stack.releases(MODEL)[known].ended:
            told_again(stack, "reconcile()")
        promoted_once(stack, known + 1, version)
    assert load.failed() == []
    assert_traffic(load, {stable, stack.releases(MODEL)[known].digest})


def assert_traffic(load: Load, revisions: set[str | None]) -> None:
    """Assert that callers were answered by these revisions alone, but for the moments in which their one edge was dead."""
    answers = load.answers()
    assert load.totals["sent"] == load.totals["scheduled"] == len(answers)
    assert {sent["revision"] for sent in answers if 200 <= sent["status"] < 300} == revisions
    failed = load.failed()
    assert not failed or max(sent["due"] for sent in failed) - min(sent["due"] for sent in failed) < 10


def test_a_version_that_was_deleted_is_refused_at_every_door_and_a_release_of_it_fails_with_nothing_changed(stack: TestStack) -> None:
    from mlflow import MlflowClient

    version = stack.register(MODEL, offset=9.0)
    MlflowClient(stack.house.stack.mlflow_url).delete_model_version(MODEL, version)
    before, known = stack.snapshot(MODEL), len(stack.releases(MODEL))
    refused = stack.convoy("release", MODEL, "--version", version)
    assert refused.returncode == 2
    assert f"version {version}: is not registered in MLflow (known: 1" in refused.stderr
    answer = call_api(stack, "/releases", {"model": MODEL, "version": version})
    assert (answer.status_code, answer.json()["error"]) == (404, "UnknownName")
    assert stack.snapshot(MODEL) == before
    doomed = stack.register(MODEL, offset=9.5)
    # The alias was set and observed a moment before the version is deleted, and goes with it
    stack.want(MODEL, doomed)
    MlflowClient(stack.house.stack.mlflow_url).delete_model_version(MODEL, doomed)
    stack.flow(f"release({MODEL!r})")
    view = stack.ended(MODEL, known + 1)
    assert (view.phase, view.digest) == ("failed", None)
    assert "is not registered in MLflow" in view.reasons[0]
    after = stack.snapshot(MODEL)
    assert {key: after[key] for key in ("stores", "table")} == {key: before[key] for key in ("stores", "table")}
    assert after["aliases"] == [None, before["aliases"][1]]
