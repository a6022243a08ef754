"""One revision's process for a short time outside every region: started as a region starts it, looked at, and ended.

The supervisor knows nothing of it, since a second start would hide how the first one ended. It dies with the thread that
started it (prctl(2), PR_SET_PDEATHSIG), and whoever tries the same folder again first ends what may be left there: the
folder stands in the process's environment.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from clouds.local.contained import check_servable
from clouds.local.files import private_folder, tail, write_private
from clouds.local.health import READY_PATH
from clouds.local.placements import HOST, PREFIX, manifest_file, serving_command, serving_environment
from clouds.local.slices import check_slice
from clouds.serving import Deployment, Endpoint, Fetch
from fleet.errors import OperationFailed
from fleet.headers import REVISION_HEADER
from fleet.manifest import manifest_named

POLL_SECONDS = 0.02
ANSWER_SECONDS = 10.0
END_SECONDS = 10.0
LOG_BYTES = 2000
KIB = 1024
NOTHING_SET: Mapping[str, str] = {}
HELD = """
import ctypes, os, sys
held = getattr(ctypes.CDLL(None), "prctl", None)
if held is not None:
    held(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("whoever started this is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Has the kernel kill this process when its parent dies, then becomes the service."""


@dataclass(frozen=True, slots=True)
class Started:
    """How a start went, in milliseconds: until it was ready, and what the service says of its steps (None: it does not say)."""

    cold_ms: float
    load_ms: float | None
    warm_up_ms: float | None


@dataclass(frozen=True, slots=True)
class Trial:
    """A process under trial; `began` is when it was started (monotonic seconds)."""

    deployment: Deployment
    endpoint: Endpoint
    process: subprocess.Popen[bytes] = field(repr=False)
    log: Path
    began: float

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.endpoint.host}:{self.endpoint.port}"

    def ready(self, seconds: float) -> Started:
        """Wait until it is ready; raises OperationFailed with what its log says when it ended, or after so many seconds."""
        with httpx.Client(base_url=self.url, timeout=ANSWER_SECONDS, trust_env=False) as client:
            while True:
                answer = _asked(client)
                if answer is not None and answer.is_success:
                    return self._started(answer)
                if self.process.poll() is not None:
                    raise self._failed(f"ended with status {self.process.returncode}")
                if time.monotonic() - self.began > seconds:
                    raise self._failed(f"was not ready after {seconds:g} s")
                time.sleep(POLL_SECONDS)

    def peak_bytes(self) -> int | None:
        """Return the most memory that the process and its children had resident; None where the kernel does not tell."""
        with suppress(psutil.Error, OSError, StopIteration):
            family = [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children(recursive=True))]
            return sum(_peak(pid) for pid in family)
        return None

    def _started(self, answer: httpx.Response) -> Started:
        cold_ms = round((time.monotonic() - self.began) * 1000, 1)
        if answer.headers.get(REVISION_HEADER) != self.deployment.digest:
            raise self._failed(f"answers as {answer.headers.get(REVISION_HEADER)}")
        return Started(cold_ms, *(_took(answer, step) for step in ("load", "warm_up")))

    def _failed(self, reason: str) -> OperationFailed:
        said = tail(self.log, LOG_BYTES).splitlines()[-3:]
        return OperationFailed("the service", f"{reason}; its log ends: {' / '.join(said) or 'empty'}", "Start the Bento by hand.")


@contextmanager
def trial(deployment: Deployment, fetch: Fetch, folder: Path, stack_id: str, settings: Mapping[str, str] = NOTHING_SET) -> Iterator[Trial]:
    """Unpack a revision below a folder and run its service while the block runs; it and the files are gone afterwards.

    `settings` are the service's own, by their names in capitals.

    What an earlier trial in this folder left, a killed one, is ended and deleted first. Raises what `fetch` raises;
    NotSupported for a container that this machine cannot keep apart.
    """
    root = private_folder(folder.absolute()) / deployment.digest.removeprefix("sha256:")
    end_leftovers(root)
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(root.parent)
    try:
        fetch(deployment.digest, root)
        check_servable(root)
        check_slice(root)
        write_private(manifest_file(root), manifest_named(root, deployment.digest).to_bytes())
        found = _spawn(deployment, root, stack_id, settings)
        try:
            yield found
        finally:
            _end(found.process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_leftovers(root: Path) -> tuple[int, ...]:
    """Kill this user's processes that serve an unpacked folder, and return their ids once they are gone."""
    left = [process for process in psutil.process_iter() if _serves(process, root)]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=END_SECONDS)
    return tuple(process.pid for process in left)


def _spawn(deployment: Deployment, root: Path, stack_id: str, settings: Mapping[str, str]) -> Trial:
    port = _free_port()
    log = root.with_name("service.log")
    command = [sys.executable, "-I", "-S", "-c", HELD, str(os.getpid()), *serving_command(root)]
    began = time.monotonic()
    with log.open("wb") as said:
        process = subprocess.Popen(
            command,
            cwd=root / "src",
            env={**serving_environment(deployment, root, port, stack_id), **{PREFIX + name: value for name, value in settings.items()}},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    return Trial(deployment, Endpoint(HOST, port), process, log, began)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its group: nothing of it is to be kept."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(END_SECONDS)


def _asked(client: httpx.Client) -> httpx.Response | None:
    try:
        return client.get(READY_PATH)
    except httpx.TransportError:
        return None


def _took(answer: httpx.Response, step: str) -> float | None:
    """Return how long a step took, None where the answer does not say: a container of one's own need not."""
    try:
        told: Any = answer.json()["took_ms"][step]
        return float(told) if math.isfinite(float(told)) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _serves(process: psutil.Process, root: Path) -> bool:
    try:
        environment: Mapping[str, str] = process.environ() if process.uids().real == os.getuid() else {}
    except (psutil.Error, OSError):
        return False
    return environment.get(PREFIX + "ROOT") == str(root)


def _peak(pid: int) -> int:
    """Return the most resident memory that a process had (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * KIB
