"""What only the local target does: processes, ports, folders."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from contextlib import closing

import psutil
import pytest
from clouds_support import STACK, Made, make_revision, wait_until

from clouds.local.placements import manifest_file, parity_file, revision_root
from clouds.local.supervisor import ProcessState, Supervisor, launch
from clouds.local.target import LocalTarget
from clouds.serving import Deployment, State
from clouds.unpacked import unpacked
from fleet.canonical import digest_of, short
from fleet.errors import NotSupported, OperationFailed, Unreachable
from fleet.home import Home
from fleet.manifest import manifest_of
from fleet.settings import STACK_MARK
from registry.closed_world import differences

MODEL, REGION = "employment", "east"


@pytest.fixture
def target(home: Home, supervisor: Supervisor) -> LocalTarget:
    first = random.randrange(30000, 32000)
    return LocalTarget(
        home, STACK, {REGION: range(first, first + 20), "a": range(first + 20, first + 40), "a-b": range(first + 40, first + 60)}
    )


@pytest.fixture
def made(home: Home) -> Made:
    return make_revision(home.root.parent / "made")


def deployment(made: Made) -> Deployment:
    return Deployment(MODEL, REGION, made.digest)


def ready(target: LocalTarget, made: Made) -> psutil.Process:
    wait_until(lambda: target.status_of(REGION, MODEL, made.digest).state is State.READY)
    (process,) = target.supervisor.processes()
    assert process.pid
    return psutil.Process(process.pid)


def port_of(target: LocalTarget, made: Made) -> int:
    endpoint = target.status_of(REGION, MODEL, made.digest).endpoint
    assert endpoint
    return endpoint.port


def listening(port: int) -> socket.socket:
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stranger.bind(("127.0.0.1", port))
    stranger.listen()
    return stranger


def test_deploying_twice_is_one_process(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    first = ready(target, made)
    target.deploy(deployment(made), made.fetch)
    assert ready(target, made).pid == first.pid


def asks_for_a_slice(home: Home, **more: str) -> Made:
    made = make_revision(home.root.parent / "sliced")
    (made.folder / "src" / "resources.json").write_text(json.dumps({"gpu": 1, "gpu_slice": "mig-1g.10gb", **more}))
    return Made(manifest_of(made.folder).digest, made.folder)


@pytest.mark.parametrize("shown", [None, "0", "GPU-5d6f"])
def test_a_revision_that_asks_for_a_slice_of_a_gpu_is_refused_where_none_is_shown(
    target: LocalTarget, home: Home, monkeypatch: pytest.MonkeyPatch, shown: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    made = asks_for_a_slice(home)
    with pytest.raises(NotSupported, match=r"slice mig-1g.10gb of a GPU.* CUDA_VISIBLE_DEVICES names no MIG device"):
        target.deploy(deployment(made), made.fetch)
    assert target.status(MODEL, REGION) == ()


def test_a_revision_that_may_answer_on_the_cpu_is_started_without_a_slice(
    target: LocalTarget, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    made = asks_for_a_slice(home, without_gpu="cpu")
    target.deploy(deployment(made), made.fetch)
    assert "CUDA_VISIBLE_DEVICES" not in ready(target, made).environ()


def test_the_slice_that_is_shown_to_convoy_is_shown_to_a_revision_that_asks_for_one(
    target: LocalTarget, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5d6f")
    asks = asks_for_a_slice(home)
    target.deploy(deployment(asks), asks.fetch)
    assert ready(target, asks).environ()["CUDA_VISIBLE_DEVICES"] == "MIG-5d6f"


def test_the_process_knows_its_stack_and_its_revision_and_no_credential(
    target: LocalTarget, made: Made, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("CONVOY_LEDGER_URL", "postgresql://user:password@host/db")
    target.deploy(deployment(made), made.fetch)
    environment = ready(target, made).environ()
    assert environment[STACK_MARK] == STACK
    assert environment["CONVOY_SERVICE_ROOT"] == str(home.revisions(REGION) / made.digest.removeprefix("sha256:"))
    assert environment["CONVOY_SERVICE_REVISION"] == made.digest
    assert environment["CONVOY_SERVICE_MODEL"] == MODEL
    assert environment["CONVOY_SERVICE_REGION"] == REGION
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "secret" not in json.dumps(environment)
    assert "password" not in json.dumps(environment)


def test_the_manifest_lies_beside_the_folder_and_serving_changes_no_file(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    root = revision_root(home, deployment(made))
    assert digest_of(manifest_file(root).read_bytes()) == made.digest
    assert manifest_of(root).digest == made.digest


def test_files_that_rot_under_a_running_process_are_found_and_unpacked_again_and_it_goes_on(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    process = ready(target, made)
    ((given, folder),) = unpacked(target, REGION)
    manifest = manifest_of(folder)
    assert (given, manifest.digest) == (deployment(made), made.digest)
    file = folder / max(manifest.entries, key=lambda entry: entry.size).path
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    assert differences(folder, manifest) != ()
    target.deploy(deployment(made), made.fetch)
    assert differences(folder, manifest) == ()
    assert ready(target, made).pid == process.pid


def test_retiring_leaves_no_process_program_or_file_but_keeps_the_log(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    process = ready(target, made)
    beside = revision_root(home, deployment(made)).name
    (home.revisions(REGION) / f"{beside}.tuning").touch()
    target.retire(REGION, MODEL, made.digest)
    assert not process.is_running()
    assert list(home.programs.iterdir()) == []
    assert list(home.revisions(REGION).iterdir()) == []
    assert (home.logs / f"serve-{REGION}-{MODEL}-{short(made.digest)}.log").exists()


def test_what_is_known_of_how_a_revision_is_asked_goes_when_no_region_has_it(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    process = ready(target, made)
    kept = parity_file(home, made.digest)
    assert process.environ()["CONVOY_SERVICE_PARITY"] == str(kept)
    recent, old = (kept.with_name(f"{name * 64}.json") for name in "ab")
    for file in (kept, recent, old):
        file.touch()
    for file in (kept, old):
        os.utime(file, (0, 0))

    elsewhere = Deployment(MODEL, "a", made.digest)
    target.deploy(elsewhere, made.fetch)
    target.retire(REGION, MODEL, made.digest)
    assert (kept.exists(), recent.exists(), old.exists()) == (True, True, False)
    target.retire("a", MODEL, made.digest)
    assert not kept.exists()


def test_a_port_taken_by_a_stranger_is_skipped(target: LocalTarget, made: Made) -> None:
    first = target.ports[REGION].start
    with closing(listening(first)):
        target.deploy(deployment(made), made.fetch)
        ready(target, made)
        assert port_of(target, made) != first


def test_a_port_taken_while_the_process_was_down_is_left_to_its_taker(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    before = port_of(target, made)
    (process,) = target.supervisor.processes()
    target.supervisor.stop(process.name)
    with closing(listening(before)):
        target.deploy(deployment(made), made.fetch)
        ready(target, made)
        assert port_of(target, made) != before


def test_a_region_without_a_free_port_says_so(home: Home, supervisor: Supervisor, made: Made) -> None:
    port = random.randrange(32000, 32500)
    target = LocalTarget(home, STACK, {REGION: range(port, port + 1)})
    with closing(listening(port)), pytest.raises(OperationFailed, match=f"no free port from {port}"):
        target.deploy(deployment(made), made.fetch)


def test_a_stopped_revision_is_failed_and_deploying_starts_it_again(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    port = port_of(target, made)
    (process,) = target.supervisor.processes()
    target.supervisor.stop(process.name)
    status = target.status_of(REGION, MODEL, made.digest)
    assert status.state is State.FAILED
    assert "was stopped" in status.reason
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    assert port_of(target, made) == port


def test_a_killed_process_comes_back_by_itself_on_its_port(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    first = ready(target, made)
    port = port_of(target, made)
    first.send_signal(signal.SIGKILL)
    wait_until(lambda: not first.is_running())
    again = ready(target, made)
    assert again.pid != first.pid
    assert port_of(target, made) == port


def test_a_broken_process_died_of_a_kill_and_its_supervisor_keeps_it_down(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    first = ready(target, made)
    target.break_(deployment(made))
    assert not first.is_running()
    (process,) = target.supervisor.processes()
    assert process.state is ProcessState.STOPPED
    assert "terminated by SIGKILL" in (home.logs / "supervisord.log").read_text()
    assert "was asked to stop" not in process.log.read_text()
    target.mend(deployment(made))
    assert ready(target, made).pid != first.pid


def test_a_process_that_was_frozen_to_be_killed_and_left_so_is_mended(target: LocalTarget, made: Made) -> None:
    target.deploy(deployment(made), made.fetch)
    first = ready(target, made)
    first.send_signal(signal.SIGSTOP)
    target.mend(deployment(made))
    assert ready(target, made).pid == first.pid
    first.send_signal(signal.SIGSTOP)
    # Whoever restores what was promoted deploys it, and knows of no drill
    target.deploy(deployment(made), made.fetch)
    assert ready(target, made).pid == first.pid
    first.send_signal(signal.SIGSTOP)
    (process,) = target.supervisor.processes()
    target.supervisor._call("stopProcess", process.name, False)
    target.mend(deployment(made))
    assert ready(target, made).pid != first.pid


def test_a_broken_revision_comes_back_with_the_supervisor(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    target.break_(deployment(made))
    target.supervisor.shutdown()
    launch(home, STACK)
    ready(target, made)


def test_files_changed_on_disk_are_replaced_by_the_next_deploy(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    root = revision_root(home, deployment(made))
    (root / "src" / "note").write_text("flipped")
    (root / "src" / "link").symlink_to("/etc/hostname")
    target.deploy(deployment(made), made.fetch)
    assert manifest_of(root).digest == made.digest


def test_everything_comes_back_after_the_supervisor_was_shut_down(target: LocalTarget, made: Made, home: Home) -> None:
    target.deploy(deployment(made), made.fetch)
    ready(target, made)
    port = port_of(target, made)
    target.supervisor.shutdown()
    with pytest.raises(Unreachable):
        target.status_of(REGION, MODEL, made.digest)
    launch(home, STACK)
    ready(target, made)
    assert port_of(target, made) == port


def test_a_process_that_gave_up_is_started_again_by_a_deploy(target: LocalTarget, home: Home) -> None:
    made = make_revision(home.root.parent / "made", "dies")
    target.deploy(deployment(made), made.fetch)
    name = f"serve-{REGION}-{MODEL}-{short(made.digest)}"
    wait_until(lambda: target.supervisor.state(name) is ProcessState.FATAL)
    log = home.logs / f"{name}.log"
    tries = log.read_text().count("started with")
    target.deploy(deployment(made), made.fetch)
    wait_until(lambda: log.read_text().count("started with") > tries)


def test_names_whose_dashes_coincide_are_told_apart(target: LocalTarget, made: Made) -> None:
    target.deploy(Deployment("b-c", "a", made.digest), made.fetch)
    for act in (
        lambda: target.deploy(Deployment("c", "a-b", made.digest), made.fetch),
        lambda: target.retire("a-b", "c", made.digest),
        lambda: target.status_of("a-b", "c", made.digest),
    ):
        with pytest.raises(OperationFailed, match="b-c in region a already"):
            act()
    assert target.status("c", "a-b") == ()
    assert target.status_of("a", "b-c", made.digest).state is not State.ABSENT


def test_a_revision_orphaned_by_a_killed_supervisor_does_not_block_the_next_deploy(home: Home, made: Made) -> None:
    first = launch(home, STACK)
    port = random.randrange(31500, 32000)
    target = LocalTarget(home, STACK, {REGION: range(port, port + 20)})
    target.deploy(deployment(made), made.fetch)
    orphan = ready(target, made)
    psutil.Process(first.pid()).kill()
    wait_until(lambda: not first.alive())
    second = launch(home, STACK)
    try:
        name = f"serve-{REGION}-{MODEL}-{short(made.digest)}"
        wait_until(lambda: second.state(name) is ProcessState.FATAL)
        assert target.status_of(REGION, MODEL, made.digest).state is State.FAILED
        target.deploy(deployment(made), made.fetch)
        wait_until(lambda: target.status_of(REGION, MODEL, made.digest).state is State.READY)
        assert port_of(target, made) != port
    finally:
        orphan.kill()
        second.shutdown()
