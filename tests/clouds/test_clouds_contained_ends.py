"""How a container of a model's owner ends: told, killed at any moment, with answers begun; and what it may say meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from clouds_support import STACK, wait_until
from contained_support import MODEL, REGION, Own, family, made, needs_namespaces, ready, region, tried

from clouds.local import spaces
from clouds.local.placements import PREFIX, revision_root
from clouds.local.spaces import PACKAGES, impossible
from clouds.local.supervisor import Supervisor, launch
from clouds.local.target import LocalTarget
from clouds.local.told import told_of
from clouds.local.trial import Trial
from clouds.serving import Deployment
from fleet.contained import root_of
from fleet.headers import NOT_READY
from fleet.home import Home
from support.own_container import program

pytestmark = needs_namespaces

BEGUN = """
import os, signal, socket
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with socket.create_server(("127.0.0.1", int(os.environ["CONVOY_SERVICE_PORT"]))) as server:
    print("listening", flush=True)
    client, _ = server.accept()
    client.recv(1 << 16)
    print("begun", flush=True)
    signal.sigwait({signal.SIGTERM})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    print("told again" if told else "told once", flush=True)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 4\\r\\n\\r\\nlast")
    os._exit(0)
"""
SAYS = """
import os, socket
with socket.create_server(("127.0.0.1", int(os.environ["CONVOY_SERVICE_PORT"]))) as server:
    print("listening", flush=True)
    while True:
        client, _ = server.accept()
        client.recv(1 << 16)
        client.sendall(ANSWER)
        client.close()
"""
ELSEWHERE = """
import os, socket, time
with socket.create_server(("127.0.0.1", int(os.environ["CONVOY_SERVICE_PORT"]) + 1)):
    print("listening", flush=True)
    time.sleep(1000)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        break
print("deaf", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def target(home: Home, supervisor: Supervisor) -> LocalTarget:
    return region(home)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """The container of the documents."""
    return made(tmp_path_factory.mktemp("example"), program())


def left_of(root: Path) -> list[int]:
    """The processes that serve an unpacked revision, the container's own left aside: it has no longer a life than these."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(PREFIX + "ROOT") == str(root):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def root_in(place: Path, own: Own) -> Path:
    return place / "trial" / own.digest.removeprefix("sha256:")


def says(running: Trial, text: str) -> None:
    wait_until(lambda: running.process.poll() is not None or text in running.log.read_text())


def test_what_it_says_last_reaches_its_caller_and_it_is_told_once(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", BEGUN.encode()), tmp_path) as running, ThreadPoolExecutor(1) as pool:
        says(running, "listening")
        asked = pool.submit(httpx.get, running.url, timeout=30)
        says(running, "begun")
        # As a supervisor stops it: the whole group
        os.killpg(running.process.pid, signal.SIGTERM)
        answer = asked.result(30)
        assert (answer.status_code, answer.text) == (200, "last")
        assert running.process.wait(10) == 0
        assert "told once" in running.log.read_text()


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_killed_at_any_moment_nothing_of_it_is_left(members: int, tmp_path: Path, example: Own) -> None:
    """Once it is so many processes: itself, its keeper, the front, the container."""
    with tried(example, tmp_path) as running:
        wait_until(lambda: len(family(psutil.Process(running.process.pid))) >= members)
        running.process.kill()
        running.process.wait(10)
        wait_until(lambda: not left_of(root_in(tmp_path, example)))


@pytest.mark.parametrize("which", [1, 2, 3])
def test_whichever_of_its_processes_is_killed_all_of_it_ends_to_be_started_again(which: int, tmp_path: Path, example: Own) -> None:
    with tried(example, tmp_path) as running:
        running.ready(20)
        everyone = sorted(family(psutil.Process(running.process.pid)), key=lambda each: each.pid)
        everyone[which].kill()
        assert running.process.wait(10) == 1
        wait_until(lambda: not [each for each in everyone if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])


def test_one_that_hears_nothing_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", DEAF.encode()), tmp_path) as running:
        says(running, "deaf")
        wait_until(lambda: len(family(psutil.Process(running.process.pid))) == 7)
        everyone = family(psutil.Process(running.process.pid))
        running.process.terminate()
        running.process.kill()
        wait_until(lambda: not [each for each in everyone if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])


def test_a_process_whose_starter_is_gone_does_not_begin() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from clouds.local.spaces import end_with; end_with(1 << 30); print('begun')"
    done = subprocess.run([sys.executable, "-P", "-c", code, str(PACKAGES)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is gone" in done.stderr


def test_the_words_are_started_with_the_usual_signals() -> None:
    code = (
        "import signal, sys; sys.path.insert(0, sys.argv[1]); from clouds.local.spaces import usual_signals;"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {15}); usual_signals(); print(open('/proc/self/status').read())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(PACKAGES)], capture_output=True, text=True, check=True)
    told = dict(line.partition(":\t")[::2] for line in done.stdout.splitlines())
    assert (int(told["SigBlk"], 16), int(told["SigIgn"], 16) >> (signal.SIGPIPE - 1) & 1) == (0, 0)


def test_a_status_of_the_containers_own_never_says_that_it_can_never_run(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", b"import os\nos._exit(5)\n"), tmp_path) as running:
        assert running.process.wait(20) == 1


def test_one_that_listens_elsewhere_is_not_ready(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", ELSEWHERE.encode()), tmp_path) as running:
        says(running, "listening")
        answer = httpx.get(running.url)
        assert (answer.status_code, answer.headers[NOT_READY]) == (503, "1")


ANSWERS: Mapping[str, tuple[bytes, int]] = {
    "garbage": (b"garbage" * 1000, 503),
    "nothing": (b"", 503),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 503),
    "a status that is none": (b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", 502),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 503),
    "a header without an end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, 503),
    "marks of the edges": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Convoy-Not-Ready: 1\r\nX-Convoy-Answer: 1;2\r\nX-Envoy-Overloaded: true\r\n\r\nok",
        200,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whatever_it_says_its_caller_gets_an_answer_and_the_edges_no_mark_of_its_making(name: str, tmp_path: Path) -> None:
    said, status = ANSWERS[name]
    with tried(made(tmp_path / "made", SAYS.replace("ANSWER", repr(said)).encode()), tmp_path) as running:
        says(running, "listening")
        answer = httpx.get(running.url)
    assert answer.status_code == status
    marks = {header for header in answer.headers if header.startswith("x-")}
    assert marks == ({NOT_READY} if status == 503 else set())


def test_answers_that_are_none_take_up_no_room(tmp_path: Path) -> None:
    said = b"HTTP/1.1 999 No\r\nContent-Length: 31457280\r\n\r\n"
    server = SAYS.replace("ANSWER", f"{said!r} + bytes(31457280)")
    with tried(made(tmp_path / "made", server.encode(), 400 << 20), tmp_path) as running:
        says(running, "listening")
        assert [httpx.post(running.url, content=b"x").status_code for _ in range(5)] == [502] * 5, running.log.read_text()


def test_it_ends_with_a_killed_supervisor_and_the_next_one_serves_it_on_its_port(target: LocalTarget, home: Home, example: Own) -> None:
    target.deploy(Deployment(MODEL, REGION, example.digest), example.fetch)
    url = ready(target, example)
    (process,) = target.supervisor.processes()
    everyone = family(psutil.Process(process.pid))
    os.kill(target.supervisor.pid(), signal.SIGKILL)
    wait_until(lambda: not [each for each in everyone if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])
    launch(home, STACK)
    assert ready(target, example) == url


def test_files_that_were_replaced_under_a_running_container_are_served_by_a_new_one(target: LocalTarget, home: Home, example: Own) -> None:
    deployment = Deployment(MODEL, REGION, example.digest)
    target.deploy(deployment, example.fetch)
    ready(target, example)
    (before,) = target.supervisor.processes()
    laid = root_of(revision_root(home, deployment))
    (laid / "app/serve.py").write_text("print('somebody else')")
    left = laid.with_name(f".{laid.name}-of-one-that-was-killed")
    (left / "root").mkdir(parents=True)
    target.deploy(deployment, example.fetch)
    ready(target, example)
    (after,) = target.supervisor.processes()
    assert after.pid != before.pid
    assert not left.exists()
    target.deploy(deployment, example.fetch)
    assert [process.pid for process in target.supervisor.processes()] == [after.pid]


def test_users_that_this_machine_does_not_know_are_told_before_anything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root of a user namespace with no other user in it, such as some sandboxes are."""
    alone = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from fleet.kernel import call; from pathlib import Path; uid = os.getuid();"
        "call('unshare', 0x10000000); Path('/proc/self/setgroups').write_text('deny'); Path('/proc/self/uid_map').write_text(f'0 {uid} 1');"
    )
    monkeypatch.setattr(spaces, "PROBE", alone + spaces.PROBE)
    assert "the kernel refuses what keeps a container apart" in impossible()


DEEP: object = [1.0]
for _ in range(700):
    DEEP = [DEEP]


@pytest.mark.parametrize("data", [DEEP, [10**400], [1e308, 1e308, 1e308], [float("inf"), float("-inf")], [float("nan")]])
def test_numbers_that_nobody_can_add_up_have_no_score(data: object) -> None:
    told = told_of(json.dumps({"outputs": [{"name": "p", "shape": [1], "data": data}]}).encode())
    assert told is None or told.startswith("-;")
