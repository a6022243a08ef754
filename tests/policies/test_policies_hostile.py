"""Hostile models against the sandbox: each would do harm, or pass, in the caller's process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from policies_world import wait_until

from fleet.evidence import GateOutcome, GateResult
from policies.candidate import Candidate
from policies.metric import MetricAgainstChampion
from policies.sandbox import PACKAGES, Job, Limits, run
from policies.workers.messages import Predictions, PredictRequest

Hostile = Callable[[str], Path]
SECRET = "hunter2-of-the-parent"


def judged(candidate: Candidate, folder: Path, seconds: float = 60) -> GateResult:
    return MetricAgainstChampion().evaluate(replace(candidate, folder=folder, seconds=seconds))


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in part for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def spawning(mark: str) -> str:
    """Lines that start a child in a session of its own, orphaned by a fork between."""
    return f"""
import subprocess, time
if os.fork() == 0:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "{mark}"], start_new_session=True)
    os._exit(0)
"""


def test_credentials_of_the_parent_are_found_neither_in_the_environment_nor_in_proc_nor_on_disk(
    candidate: Candidate, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (tmp_path / "credentials.json").write_text(SECRET)
    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        folder = hostile(f"""
import glob
seen = {{name: value for name, value in os.environ.items()}}
for path in [*glob.glob("/proc/*/environ"), {str(tmp_path / "credentials.json")!r}]:
    try:
        seen[path] = open(path, errors="replace").read()
    except OSError:
        pass
found = [name for name, value in seen.items() if {SECRET!r} in value]
raise RuntimeError(f"{{len(os.environ)}} variables, the secret in {{found}}")
""")
        result = judged(candidate, folder)
    finally:
        parent.communicate(b"\n")
    assert result.outcome is GateOutcome.FAILED
    assert dict(result.figures)["sandbox files"] == "hidden"
    assert "the secret in []" in result.reasons[0]


@pytest.mark.long
def test_an_endless_model_is_stopped_at_the_limit_with_its_children(candidate: Candidate, hostile: Hostile) -> None:
    mark = f"mark-{uuid.uuid4()}"
    folder = hostile(spawning(mark) + "while True: pass")
    with ThreadPoolExecutor(1) as pool:
        judging = pool.submit(judged, candidate, folder, 15)
        assert wait_until(lambda: bool(marked(mark)), 14)
        result = judging.result()
    assert result.outcome is GateOutcome.FAILED
    assert "did not end within its 15 seconds and was stopped" in result.reasons[0]
    assert not marked(mark)


def test_children_do_not_outlive_a_model_that_ends_well(candidate: Candidate, hostile: Hostile) -> None:
    mark = f"mark-{uuid.uuid4()}"
    result = judged(candidate, hostile(spawning(mark)))
    assert result.outcome is GateOutcome.NOT_APPLICABLE, result.reasons
    assert not marked(mark)


def test_a_killed_controller_leaves_no_model_running(candidate: Candidate, hostile: Hostile) -> None:
    mark = f"mark-{uuid.uuid4()}"
    folder = hostile(spawning(mark) + "while True: pass")
    call = f"""
from pathlib import Path
from policies.sandbox import *
from policies.workers.messages import *
model, rows = Path({str(folder)!r}), Path({str(candidate.training)!r})
run(Job("predict", PredictRequest(model, rows), (model, rows), Path({str(candidate.work)!r})), Predictions, Limits(300))
"""
    controller = subprocess.Popen([sys.executable, "-c", call], cwd=PACKAGES)
    assert wait_until(lambda: bool(marked(mark)), 60)
    tree = psutil.Process(controller.pid).children(recursive=True)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    assert wait_until(lambda: not marked(mark) and not any(process.is_running() for process in tree), 10)


def test_twenty_gigabytes_are_refused(candidate: Candidate, hostile: Hostile) -> None:
    result = judged(candidate, hostile("greedy = bytearray(20 << 30)"))
    assert result.outcome is GateOutcome.FAILED
    assert "MemoryError" in result.reasons[0]


def test_memory_spread_over_children_is_stopped(candidate: Candidate, hostile: Hostile) -> None:
    assert candidate.training is not None
    folder = hostile("""
children = [os.fork() for _ in range(3)]
greedy = b"x" * (400 << 20)
while True: pass
""")
    job = Job("predict", PredictRequest(folder, candidate.training), (folder, candidate.training), candidate.work)
    done = run(job, Predictions, Limits(60, memory=1 << 30))
    assert done.answer is None
    assert "more than its 1 GiB of memory" in done.failure


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("os._exit(0)", "it ended without an answer"),
        ("print('{\"values\": [1.0]}' * 1000); sys.stdout.flush(); os._exit(0)", "it ended without an answer"),
        ("[os.write(fd, b'garbage') for fd in range(3, 1024) if os.path.exists(f'/proc/self/fd/{fd}')]; os._exit(0)", "not what was asked"),
        ("os.kill(os.getpid(), 11)", "ended by signal 11"),
        ("raise SystemExit(0)", "it ended without an answer"),
        ("raise RuntimeError('no \\x1b[31mcolour ' + 'x' * 100000)", "exit status 1"),
    ],
)
def test_no_way_of_ending_early_passes(candidate: Candidate, hostile: Hostile, body: str, reason: str) -> None:
    result = judged(candidate, hostile(body))
    assert result.outcome is GateOutcome.FAILED
    assert reason in result.reasons[0]
    assert len(result.reasons[0]) < 3000
    assert "\x1b" not in result.reasons[0]


def test_an_answer_over_its_limit_is_refused(candidate: Candidate, models: dict[str, Path]) -> None:
    assert candidate.training is not None
    model = models["good"]
    job = Job("predict", PredictRequest(model, candidate.training), (model, candidate.training), candidate.work)
    done = run(job, Predictions, Limits(60, answer=100))
    assert done.answer is None
    assert "longer than 100 bytes" in done.failure


def test_a_listener_on_loopback_is_not_reached(candidate: Candidate, hostile: Hostile) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        result = judged(candidate, hostile(f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"))
        network = dict(result.figures)["sandbox network"]
        if network == "cut":
            assert result.outcome is GateOutcome.FAILED
            with pytest.raises(TimeoutError):
                listener.accept()
        else:
            assert network.startswith("not cut: the kernel refuses")


def test_a_model_cannot_change_its_own_files_nor_another_model(candidate: Candidate, hostile: Hostile, models: dict[str, Path]) -> None:
    champion = models["good"]
    folder = hostile(f"""
for path in ({str(champion / "MLmodel")!r}, os.path.join(sys.prefix, "pyvenv.cfg"), __file__):
    try:
        open(path, "a").write("x")
        raise RuntimeError(path)
    except OSError:
        pass
""")
    before = (champion / "MLmodel").read_bytes()
    result = MetricAgainstChampion().evaluate(replace(candidate, folder=folder, champion=champion))
    assert result.outcome is not GateOutcome.FAILED or "worse than" in result.reasons[0], result.reasons
    assert (champion / "MLmodel").read_bytes() == before


def test_where_the_kernel_refuses_namespaces_other_barriers_hold_and_the_result_says_so(
    candidate: Candidate, hostile: Hostile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark = f"mark-{uuid.uuid4()}"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    (tmp_path / "credentials.json").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        folder = hostile(
            spawning(mark)
            + f"""
import glob, socket
found = []
for path in [*glob.glob("/proc/*/environ"), {str(tmp_path / "credentials.json")!r}]:
    try:
        found += [path] * ({SECRET!r} in open(path, errors="replace").read())
    except OSError:
        pass
try:
    socket.create_connection(("127.0.0.1", {listener.getsockname()[1]}), 5)
    found.append("listener")
except OSError as problem:
    found.append(type(problem).__name__)
raise RuntimeError(f"found {{found}}")
"""
        )
        call = f"""
from pathlib import Path
from policies.sandbox import *
from policies.workers.messages import *
model, rows = Path({str(folder)!r}), Path({str(candidate.training)!r})
done = run(Job("predict", PredictRequest(model, rows), (model, rows), Path({str(candidate.work)!r})), Predictions, Limits(60))
print(done.failure, done.barriers.figures)
"""
        refuse = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
        unshared = ["unshare", "--user", "--map-root-user", "sh", "-c", refuse, "sh", sys.executable, "-c", call]
        done = subprocess.run(unshared, cwd=PACKAGES, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "setpriv" in done.stderr:
        pytest.skip(f"namespaces cannot be refused here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr
    assert "'sandbox processes', 'not hidden: the kernel refuses the namespaces" in done.stdout
    assert "'sandbox network', 'not cut" in done.stdout
    assert not marked(mark)
    if "'sandbox files', 'hidden'" in done.stdout:
        assert "RuntimeError: found ['PermissionError']" in done.stdout


def test_code_that_comes_with_a_model_is_found(candidate: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.pyfunc
    import numpy
    from mlflow.models import infer_signature

    package = tmp_path / "code" / "thresholds"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(
        "import mlflow.pyfunc\n\nclass Threshold(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n        return (model_input['age'] > 50).astype(float)\n"
    )
    monkeypatch.syspath_prepend(str(package.parent))
    import pandas
    from thresholds.model import Threshold  # type: ignore[import-not-found]

    frame = pandas.DataFrame({"age": [1.0]})
    saved = {"code_paths": [str(package)], "signature": infer_signature(frame, numpy.array([0.5])), "pip_requirements": []}
    mlflow.pyfunc.save_model(tmp_path / "with-code", python_model=Threshold(), **saved)
    result = judged(candidate, tmp_path / "with-code")
    assert result.outcome is GateOutcome.NOT_APPLICABLE, result.reasons


def test_runs_leave_nothing_behind(candidate: Candidate, hostile: Hostile, tmp_path: Path) -> None:
    before = threading.active_count()
    judged(candidate, hostile("open('left', 'w').write('behind'); open(os.path.join(os.environ['HOME'], 'too'), 'w').write('behind')"))
    assert [path.name for path in candidate.work.iterdir()] == ["evaluation-without-label.parquet"]
    assert threading.active_count() == before
