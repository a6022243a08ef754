"""A service under trial: it answers outside every region, is gone afterwards, and never outlives whoever tried it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from clouds_support import STACK, Made, make_revision, wait_until

from clouds.asking import ask
from clouds.local.placements import serving_environment
from clouds.local.trial import end_leftovers, trial
from clouds.serving import Deployment, Endpoint, RevisionStatus, State
from fleet.errors import OperationFailed, Unreachable
from fleet.settings import STACK_MARK

ROOT = Path(__file__).parents[2]


@pytest.fixture
def serves(tmp_path: Path) -> Made:
    return make_revision(tmp_path / "made")


def deployment(made: Made) -> Deployment:
    return Deployment("toy", "gate", made.digest)


def serving(root: Path) -> Iterator[psutil.Process]:
    """This user's processes that serve what is unpacked below a folder."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("CONVOY_SERVICE_ROOT", "").startswith(str(root)):
                yield process
        except (psutil.Error, OSError):
            continue


def test_it_runs_as_a_region_runs_it_and_is_gone_afterwards(serves: Made, tmp_path: Path) -> None:
    with trial(deployment(serves), serves.fetch, tmp_path / "trial", STACK) as running:
        wait_until(lambda: reached(running.url))
        (process,) = serving(tmp_path)
        environment = process.environ()
        assert {environment[STACK_MARK], environment["CONVOY_SERVICE_REGION"]} == {STACK, "gate"}
        assert not {"CONVOY_SERVICE_CAPTURE", "CONVOY_SERVICE_USAGE"} & set(environment)
        assert set(environment) - set(serving_environment(running.deployment, tmp_path, 1, STACK)) <= {"LC_CTYPE"}
        peak = running.peak_bytes()
        assert peak is not None
        assert peak > 5 << 20
    assert list(serving(tmp_path)) == []
    assert not (tmp_path / "trial").exists()


def reached(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("behaviour", "says"), [("dies", "ended with status 1; its log ends: .*cannot be loaded"), ("impostor", "answers as sha256:0000")]
)
def test_one_that_does_not_start_is_told_of_with_its_log(tmp_path: Path, behaviour: str, says: str) -> None:
    made = make_revision(tmp_path / "made", behaviour)
    with pytest.raises(OperationFailed, match=says), trial(deployment(made), made.fetch, tmp_path / "trial", STACK) as running:
        running.ready(30)
    assert list(serving(tmp_path)) == []


def test_one_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    made = make_revision(tmp_path / "made", "warming")
    with (
        pytest.raises(OperationFailed, match=r"was not ready after 0\.2 s"),
        trial(deployment(made), made.fetch, tmp_path / "trial", STACK) as running,
    ):
        running.ready(0.2)
    assert list(serving(tmp_path)) == []


TRIER = """
import sys, time, shutil
from pathlib import Path
from clouds.local.trial import trial
from clouds.serving import Deployment
digest, made, folder = sys.argv[1:]
with trial(Deployment("toy", "gate", digest), lambda _, to: shutil.copytree(made, to), Path(folder), "test-stack") as running:
    print(running.process.pid, flush=True)
    time.sleep(600)
"""


def test_it_dies_with_whoever_tried_it(serves: Made, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRIER, serves.digest, str(serves.folder), str(tmp_path / "trial")]
    trier = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert trier.stdout is not None
    service = psutil.Process(int(trier.stdout.readline()))
    wait_until(lambda: "convoy_service" in " ".join(service.cmdline()))
    trier.kill()
    trier.wait()
    wait_until(lambda: not service.is_running() or service.status() == psutil.STATUS_ZOMBIE)
    assert (tmp_path / "trial").exists()
    with trial(deployment(serves), serves.fetch, tmp_path / "trial", STACK) as running:
        assert running.process.poll() is None
    assert not (tmp_path / "trial").exists()


def test_what_an_earlier_trial_left_is_found_by_its_folder_and_ended(tmp_path: Path) -> None:
    root, other = tmp_path / "trial" / "one", tmp_path / "trial" / "another"
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    left, kept = (subprocess.Popen(sleeping, env=os.environ | {"CONVOY_SERVICE_ROOT": str(each)}) for each in (root, other))
    try:
        wait_until(lambda: len(list(serving(tmp_path))) == 2)
        assert end_leftovers(root) == (left.pid,)
        assert not psutil.pid_exists(left.pid)
        assert kept.poll() is None
    finally:
        kept.kill()
        kept.wait()


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            RevisionStatus("toy", "eu", "sha256:1", State.STARTING, Endpoint("127.0.0.1", 9), reason="it loads"),
            "is starting with sha256:1: it loads",
        ),
        (RevisionStatus("toy", "eu", "sha256:1", State.READY, Endpoint("127.0.0.1", 9)), "its server gave no answer"),
    ],
)
def test_a_region_that_cannot_be_asked_now_may_be_asked_later(status: RevisionStatus, says: str) -> None:
    with pytest.raises(Unreachable, match=says):
        ask(status, (b"{}",), "golden")
