"""Several processes behind one port: what one of them loses, the others do not."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from bentos_serving import Service, digest_of, environment, launched, packaged, serving, started, tensor, wait_until
from hostile_bodies import row
from test_bentos_lifecycle import READY_SECONDS, refuses, rewrite

from bentos.service.handover import Handover
from clouds.local.counters import read_counters
from support.ports import free_port

ROWS = (tensor("age", "INT64", 30), tensor("hours", "FP64", 30.0), tensor("children", "INT64", 1))


def processes(service: Service) -> list[psutil.Process]:
    """The serving processes, the one that keeps them left out."""
    return [each for each in psutil.Process(service.process.pid).children() if "convoy_service" in " ".join(each.cmdline())]


def figure(service: Service, name: str) -> int:
    found = re.search(rf"^convoy_service_{name}\S* (\d+)$", service.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return int(found[1])


def ask(service: Service, traffic: str = "live") -> int:
    """Ask over a connection of its own, which any process may take."""
    where = f"http://127.0.0.1:{service.port}/v2/models/employment/infer"
    return httpx.post(where, json={"inputs": ROWS}, headers={"x-convoy-traffic": traffic}, timeout=30, trust_env=False).status_code


@pytest.fixture
def three(logistic_bento: Path, tmp_path: Path) -> Iterator[Service]:
    settings = {
        "workers": "3",
        "revision": digest_of(logistic_bento),
        "usage": str(tmp_path / "one.counters"),
        "capture": str(tmp_path / "rows"),
    }
    with serving(logistic_bento, tmp_path / "log", **settings) as service:
        wait_until(lambda: figure(service, "processes_ready") == 3, READY_SECONDS, "all processes answer")
        yield service


def test_a_killed_process_is_started_again_nothing_else_is_lost_and_all_counts_add_up(three: Service, tmp_path: Path) -> None:
    before = Counter(ask(three) for _ in range(30))
    victim = processes(three)[0]
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: "ended with status -9" in three.text(), 10, "its end is seen")
    meanwhile = Counter(ask(three) for _ in range(60))
    wait_until(lambda: figure(three, "processes_ready") == 3, READY_SECONDS, "it is started again")
    after = Counter(ask(three) for _ in range(30))

    assert before + meanwhile + after == Counter({200: 120})
    assert figure(three, 'requests_total{.*code="200"') == 120
    assert "process " in three.text()
    assert "ended with status -9; it is started again" in three.text()
    pids = {each.pid for each in processes(three)}
    assert len(pids) == 3
    assert three.stop() == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)
    counted = [read_counters(file) for file in sorted(tmp_path.glob("*.counters"))]
    assert len(counted) == 3
    assert sum(each.figures["live"].requests for each in counted if each is not None) == 120
    files = list((tmp_path / "rows").rglob("*.parquet"))
    assert {file.name.split("-")[1] for file in files} <= {str(pid) for pid in (*pids, victim.pid)}


def test_only_what_the_killed_process_was_answering_is_lost(echo_bento: Path, tmp_path: Path) -> None:
    outcomes: list[str] = []

    def asked(folder: Path) -> None:
        folder.mkdir()
        try:
            outcomes.append(str(service.infer("echo", *row(city=("BYTES", f"wait:{folder}"))).status_code))
        except httpx.TransportError:
            outcomes.append("lost")

    with serving(echo_bento, tmp_path / "log", workers="2", revision=digest_of(echo_bento)) as service:
        wait_until(lambda: figure(service, "processes_ready") == 2, READY_SECONDS, "both answer")
        folders = [tmp_path / str(number) for number in range(6)]
        threads = [threading.Thread(target=asked, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        wait_until(lambda: figure(service, "queue_depth") == 6, 30, "all are inside")
        wait_until(lambda: sum((folder / "begun").exists() for folder in folders) >= 1, 30, "one is being answered")
        victim = processes(service)[0]
        os.kill(victim.pid, signal.SIGKILL)
        for folder in folders:
            (folder / "go").touch()
        for thread in threads:
            thread.join(30)
        wait_until(lambda: "ended with status -9" in service.text(), 10, "its end is seen")

        assert Counter(outcomes)["200"] + Counter(outcomes)["lost"] == 6
        wait_until(lambda: figure(service, "processes_ready") == 2, READY_SECONDS, "both answer again")
        assert {service.infer("echo", *row()).status_code for _ in range(20)} == {200}


def test_told_to_stop_every_process_finishes_what_it_has_begun(echo_bento: Path, tmp_path: Path) -> None:
    answers: list[int] = []
    with serving(echo_bento, tmp_path / "log", workers="2", revision=digest_of(echo_bento)) as service:
        waiting = row(city=("BYTES", f"wait:{tmp_path}"))
        slow = threading.Thread(target=lambda: answers.append(service.infer("echo", *waiting).status_code))
        slow.start()
        wait_until((tmp_path / "begun").exists, 10, "the prediction begins")
        # as a supervisor does: to the whole group
        os.killpg(service.process.pid, signal.SIGTERM)
        wait_until(lambda: refuses(service.port), 10, "no new connection is taken")
        (tmp_path / "go").touch()
        slow.join(10)

        assert service.process.wait(15) == 0
    assert answers == [200]


def test_when_their_keeper_is_killed_the_processes_end_and_free_the_port(logistic_bento: Path, tmp_path: Path) -> None:
    with serving(logistic_bento, tmp_path / "log", workers="2", revision=digest_of(logistic_bento)) as service:
        orphans = processes(service)
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(10)
        wait_until(lambda: refuses(service.port), 15, "the port is free")
        psutil.wait_procs(orphans, 15)

        assert not any(each.is_running() for each in orphans)


def test_a_process_that_still_loads_ends_with_its_keeper_and_lets_go_of_the_port(logistic_bento: Path, tmp_path: Path) -> None:
    """What MLflow answered is read from a pipe that nobody writes to, so that it never gets ready."""
    os.mkfifo(tmp_path / "parity")
    alive, keeper = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        given = Handover(listening.fileno(), alive=alive, own=1, processes=2, patient=True)
        variables = environment(logistic_bento, 1, parity=str(tmp_path / "parity"))
        command = [*given.command()[:-2], "convoy_service", given.command()[-1]]
        process = subprocess.Popen(command, cwd=logistic_bento / "src", env=variables, pass_fds=tuple(given.descriptors))
    os.close(alive)
    try:
        with (tmp_path / "parity").open("wb"):
            # opened: the process has come to its reading
            assert process.poll() is None
            os.close(keeper)
            assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.long
def test_a_process_that_cannot_be_started_now_is_started_later_and_the_others_go_on(logistic_bento: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    there = os.path.realpath(sys.executable)
    python.symlink_to(there)
    for name in ("pyvenv.cfg", "lib"):
        if (Path(sys.prefix) / name).exists() and sys.prefix != sys.base_prefix:
            (tmp_path / "venv" / name).symlink_to(Path(sys.prefix) / name)
    port = free_port()
    variables = environment(logistic_bento, port, workers="2", revision=digest_of(logistic_bento))
    command = [str(python), "-m", "convoy_service"]
    with started(command, logistic_bento / "src", variables, port, tmp_path / "log") as service:
        wait_until(service.ready, READY_SECONDS, "ready")
        wait_until(lambda: figure(service, "processes_ready") == 2, READY_SECONDS, "both answer")
        python.unlink()
        os.kill(processes(service)[0].pid, signal.SIGKILL)
        wait_until(lambda: "could not be started" in service.text(), 20, "it is missed")
        assert ask(service) == 200
        python.symlink_to(there)
        wait_until(lambda: figure(service, "processes_ready") == 2, READY_SECONDS, "both answer again")


def test_a_model_that_can_never_be_ready_ends_all_with_its_status(logistic_model: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(logistic_model, tmp_path / "model")
    rewrite(tmp_path / "model" / "MLmodel", "signature:", "unsigned:")
    root = packaged(tmp_path / "model", "m", tmp_path / "bento")

    with launched(root, tmp_path / "log", workers="2", revision=digest_of(root)) as service:
        assert service.process.wait(READY_SECONDS) == 5
        assert "never ready: the model has no signature" in service.text()
        assert processes_of(root) == []


def processes_of(root: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CONVOY_SERVICE_ROOT") == str(root):
                found.append(process)
        except psutil.Error:
            continue
    return found
