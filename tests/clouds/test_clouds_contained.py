"""A container of a model's owner on the local target: apart from the machine, verified, told who it is, bounded, counted."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from clouds_support import wait_until
from contained_support import MODEL, REGION, Own, answering, family, made, needs_namespaces, ready, region, tried

from clouds.local import contained, spaces
from clouds.local.counters import read_counters
from clouds.local.placements import program_name, revision_root
from clouds.local.spaces import impossible
from clouds.local.supervisor import Supervisor
from clouds.local.target import LocalTarget
from clouds.local.told import told_of
from clouds.serving import Deployment, State
from fleet.contained import contained_in, root_of
from fleet.errors import NotSupported, OperationFailed
from fleet.home import Home
from support.own_container import program
from support.ports import free_port

pytestmark = needs_namespaces
LOOKS = """
import http.server, json, os, socket
WRITE = ("/x", "/app/x", "/etc/x", "/opt/convoy/revision/src/model/MLmodel", "/dev/x", "/tmp/x")
SEEN = ["/etc/passwd", "/etc/shadow", "HERE", "FOLDER"]
def reached(host, port):
    try:
        socket.create_connection((host, port), 2).close()
        return True
    except OSError as problem:
        return type(problem).__name__
def wrote(path):
    try:
        open(path, "w").close()
        return True
    except OSError:
        return False
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        told = {
            "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(), "environment": dict(os.environ),
            "capabilities": status["CapEff"].strip() + status["CapPrm"].strip(), "new": status["NoNewPrivs"].strip(),
            "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
            "seen": [path for path in SEEN if os.path.exists(path)], "devices": sorted(os.listdir("/dev")),
            "interfaces": [name for _, name in socket.if_nameindex()],
            "outside": {str(port): reached("127.0.0.1", port) for port in map(int, self.path.strip("/").split(","))},
            "internet": reached("192.0.2.1", 80),
            "wrote": [path for path in WRITE if wrote(path)],
            "files": sorted(os.listdir("/proc/self/fd")),
            "model": open("/opt/convoy/revision/src/model/MLmodel").read(),
        }
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("X-Convoy-Revision", os.environ["CONVOY_SERVICE_REVISION"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["CONVOY_SERVICE_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def target(home: Home, supervisor: Supervisor) -> LocalTarget:
    return region(home)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """The container of the documents."""
    return made(tmp_path_factory.mktemp("example"), program())


def test_a_region_serves_the_container_as_its_revision_counts_it_and_leaves_nothing_behind(
    target: LocalTarget, home: Home, example: Own
) -> None:
    deployment = Deployment(MODEL, REGION, example.digest)
    target.deploy(deployment, example.fetch)
    url = ready(target, example)
    body = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1, 2.5]}]}
    found = httpx.post(f"{url}/v2/models/{MODEL}/infer", json=body, headers={"x-convoy-traffic": "canary"})

    assert found.json()["outputs"][0]["data"] == [2.0, 5.0]
    assert found.headers["x-convoy-revision"] == example.digest
    assert found.headers["x-convoy-region"] == REGION
    assert found.headers["x-convoy-answer"].startswith("3.500000;")
    counters = read_counters(home.usage(REGION) / f"{program_name(deployment)}.counters")
    assert counters is not None
    assert (counters.revision, counters.figures["canary"].requests, counters.figures["canary"].bytes_out) == (
        example.digest,
        1,
        len(found.content),
    )
    (process,) = target.supervisor.processes()
    assert process.pid == counters.pid
    everyone = family(psutil.Process(process.pid))
    assert len(everyone) == 4
    target.retire(REGION, MODEL, example.digest)
    assert not [each for each in everyone if each.is_running()]
    assert list(home.revisions(REGION).iterdir()) == []


def test_a_killed_container_comes_back_and_a_changed_root_is_never_started_and_laid_anew_by_the_next_deploy(
    target: LocalTarget, home: Home, example: Own
) -> None:
    deployment = Deployment(MODEL, REGION, example.digest)
    target.deploy(deployment, example.fetch)
    ready(target, example)
    (process,) = target.supervisor.processes()
    command = family(psutil.Process(process.pid))[-1]
    command.kill()
    wait_until(lambda: (target.supervisor.processes()[0].pid or process.pid) != process.pid)
    ready(target, example)
    target.break_(deployment)
    laid = root_of(revision_root(home, deployment))
    (laid / "app/serve.py").write_text("print('somebody else')")
    target.mend(deployment)
    wait_until(lambda: target.status_of(REGION, MODEL, example.digest).state is State.FAILED)
    status = target.status_of(REGION, MODEL, example.digest)
    assert "is not the root" in status.reason
    target.deploy(deployment, example.fetch)
    ready(target, example)


def test_it_is_nobody_sees_nothing_of_the_machine_and_reaches_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    port = free_port()
    looks = LOOKS.replace("HERE", __file__).replace("FOLDER", str(tmp_path))
    with tried(made(tmp_path / "made", looks.encode()), tmp_path) as running:
        answering(running)
        own_port = running.endpoint.port
        with socket.create_server(("127.0.0.1", port)):
            told = httpx.get(f"{running.url}/{port},{own_port}", timeout=20).json()

    as_root = os.geteuid() == 0
    assert told["uid"] == told["gid"] == 65532
    assert told["groups"] == [] or not as_root
    assert set(told["capabilities"]) == {"0"}
    assert told["new"] == "1"
    assert len(told["processes"]) == 3, "the keeper, the front and itself"
    assert told["seen"] == []
    assert told["devices"] == ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    assert told["interfaces"] == ["lo"]
    assert told["outside"] == {str(port): "ConnectionRefusedError", str(own_port): True}
    assert told["internet"] != True  # noqa: E712 - the reason is what it is
    assert told["wrote"] == ["/tmp/x"]
    assert told["model"] == "flavors: {}\n"
    environment = told["environment"]
    assert "secret" not in json.dumps(environment)
    assert {name for name in environment if name.startswith("CONVOY")} == {
        f"CONVOY_SERVICE_{name}" for name in ("HOST", "PORT", "MODEL", "REVISION", "REGION", "ROOT")
    }
    assert environment["CONVOY_SERVICE_ROOT"] == "/opt/convoy/revision"
    assert environment["GREETING"] == "hello"


IMPOSTOR = program().replace(b'os.environ["CONVOY_SERVICE_REVISION"]', b'"sha256:" + "0" * 64')
ENDLESS = program().replace(
    b"    def answer(self",
    b"""    def answer(self, status, document):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 20))

    def unused(self""",
)
SILENT = b"import time\ntime.sleep(1000)\n"
GREEDY = b"import time\nheld = bytearray(300 << 20)\nheld[::4096] = b'x' * len(held[::4096])\ntime.sleep(1000)\n"
FORKING = b"import os, time\nfor _ in range(300):\n    if os.fork() == 0:\n        break\ntime.sleep(1000)\n"


def test_one_that_names_another_digest_is_failed_and_never_ready(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", IMPOSTOR), tmp_path) as running, pytest.raises(OperationFailed, match="answers as sha256:0000"):
        running.ready(20)


def test_an_answer_that_names_another_digest_reaches_no_caller(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", IMPOSTOR), tmp_path) as running:
        answering(running)
        found = httpx.get(running.url + f"/v2/models/{MODEL}")
    assert found.status_code == 502
    assert "names another revision" in found.json()["error"]
    assert "x-convoy-revision" not in found.headers


def test_an_answer_without_an_end_is_cut_off_and_the_caller_told(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", ENDLESS), tmp_path) as running:
        answering(running)
        found = httpx.get(running.url + "/v2/health/ready", timeout=30)
    assert found.status_code == 502
    assert "more than" in found.json()["error"]


def test_a_body_that_is_too_large_never_reaches_it(tmp_path: Path, example: Own) -> None:
    with tried(example, tmp_path) as running:
        running.ready(20)
        found = httpx.post(running.url + f"/v2/models/{MODEL}/infer", content=bytes((8 << 20) + 1))
    assert found.status_code == 413


def test_one_that_does_not_answer_is_not_ready_and_ends_when_it_is_told(tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", SILENT), tmp_path) as running:
        with pytest.raises(OperationFailed, match="was not ready after 2 s"):
            running.ready(2)
        assert httpx.get(running.url).status_code == 503
        running.process.terminate()
        assert running.process.wait(10) == 1


@pytest.mark.parametrize(("server", "reason"), [(GREEDY, "more than 200 MiB resident"), (FORKING, "more than 256 processes")])
def test_one_that_takes_more_than_it_may_is_ended_with_all_that_it_started(server: bytes, reason: str, tmp_path: Path) -> None:
    with tried(made(tmp_path / "made", server, 200 << 20), tmp_path) as running:
        inside: list[psutil.Process] = []
        while running.process.poll() is None:
            inside = family(psutil.Process(running.process.pid)) or inside
            time.sleep(0.1)
        assert running.process.returncode == 1
        assert reason in running.log.read_text()
    assert not [process for process in inside if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_whoever_kills_what_started_it_kills_all_of_it(tmp_path: Path, example: Own) -> None:
    with tried(example, tmp_path) as running:
        running.ready(20)
        everyone = family(psutil.Process(running.process.pid))
        running.process.kill()
        wait_until(lambda: not [each for each in everyone if each.is_running() and each.status() != psutil.STATUS_ZOMBIE])


def test_where_it_cannot_be_kept_apart_that_is_said_before_anything_is_started(
    target: LocalTarget, home: Home, example: Own, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contained, "impossible", lambda: "the kernel refuses what keeps a container apart (unshare: not allowed)")
    with pytest.raises(NotSupported, match="the kernel refuses"):
        target.deploy(Deployment(MODEL, REGION, example.digest), example.fetch)
    with pytest.raises(NotSupported, match="the kernel refuses"), tried(example, tmp_path):
        pytest.fail("it was started")
    assert not (tmp_path / "trial").exists()
    assert target.supervisor.processes() == ()
    assert list(home.programs.iterdir()) == []


def test_an_image_for_another_machine_is_not_supported(target: LocalTarget, example: Own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained.platform, "machine", lambda: "riscv64")
    with pytest.raises(NotSupported, match=f"its image is for {contained_in(example.folder).architecture}, and this machine is riscv64"):
        target.deploy(Deployment(MODEL, REGION, example.digest), example.fetch)


def test_a_kernel_that_refuses_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = spaces.PROBE.replace("; try_out()", "; import clouds.local.spaces as s; s.call = refuse; try_out()")
    refusing = "def refuse(*_): raise OSError(1, 'Operation not permitted')\n" + refusing.replace("; ", "\n")
    monkeypatch.setattr(spaces, "PROBE", refusing)
    assert impossible() == "the kernel refuses what keeps a container apart ([Errno 1] Operation not permitted)"


@pytest.mark.parametrize(
    ("outputs", "score"),
    [
        ([{"name": "p", "datatype": "FP64", "shape": [2, 2], "data": [0.9, 0.1, 0.5, 0.5]}], "0.300000"),
        ([{"name": "p", "datatype": "FP64", "shape": [2, 2], "data": [[0.9, 0.1], [0.5, 0.5]]}], "0.300000"),
        ([{"name": "l", "datatype": "BYTES", "shape": [1], "data": ["yes"]}, {"name": "p", "shape": [1], "data": [4]}], "4.000000"),
        ([{"name": "l", "datatype": "BYTES", "shape": [1], "data": ["yes"]}], "-"),
        ([{"name": "p", "shape": [3], "data": [1, 2]}], "-"),
        ([{"name": "p", "shape": [1], "data": [1e300]}], "-"),
    ],
)
def test_the_edges_are_told_the_score_of_an_answer_and_a_mark_that_is_equal_for_equal_outputs(
    outputs: list[dict[str, Any]], score: str
) -> None:
    told = told_of(json.dumps({"outputs": outputs, "id": "1"}).encode())
    assert told is not None
    assert told.partition(";")[0] == score
    assert told == told_of(json.dumps({"id": "2", "outputs": outputs}).encode())
    other = [{**outputs[0], "name": "other"}, *outputs[1:]]
    assert told != told_of(json.dumps({"outputs": other}).encode())


@pytest.mark.parametrize("body", [b"", b"[]", b'{"outputs": 1}', b'{"outputs": [1]}', b"[" * 100_000, b"\xff", bytes(2 << 20)])
def test_of_what_is_no_answer_nothing_is_told(body: bytes) -> None:
    assert told_of(body) is None
