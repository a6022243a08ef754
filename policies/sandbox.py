"""Runs a worker in a process of its own, without credentials, with limits, behind the barriers of `confine`.

What a worker says is a JSON document of a declared type and of bounded size, read from a file that only its open
descriptor leads to. Everything else (no document, another document, a crash, a limit) is a failure with its reason.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import psutil
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from fleet.settings import inherited_environment
from policies import confine

GIB = 1 << 30
PACKAGES = Path(__file__).resolve().parent.parent
SAID_BYTES = 2000

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may use: seconds by the wall clock, bytes, processes.

    `address_space` and `file` hold for each process and file, `memory` (resident) for all processes together,
    `scratch` for all files where the file tree is hidden, `answer` for the document it hands back.
    """

    seconds: float
    address_space: int = 8 * GIB
    memory: int = 6 * GIB
    processes: int = 64
    file: int = GIB // 4
    scratch: int = GIB
    answer: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Barriers:
    """What kept the worker in; each is empty where the barrier stood, or says why it did not."""

    network: str
    processes: str
    files: str

    @property
    def figures(self) -> tuple[tuple[str, str], ...]:
        """The barriers as a gate reports them."""
        said = (("network", self.network, "cut"), ("processes", self.processes, "hidden"), ("files", self.files, "hidden"))
        return tuple((f"sandbox {name}", f"not {held}: {why}" if why else held) for name, why, held in said)


@dataclass(frozen=True, slots=True)
class Job:
    """A worker (a module of a package), its request (a dataclass), the paths it may read, a folder to work in.

    A worker of another room is named by its package; who knows both rooms introduces them.
    """

    worker: str
    request: object
    reads: tuple[Path, ...]
    work: Path
    package: str = "policies.workers"


@dataclass(frozen=True, slots=True)
class Run(Generic[Answer]):
    """How a run ended: with an answer, or with the reason why there is none."""

    answer: Answer | None
    failure: str
    barriers: Barriers
    seconds: float


def run(job: Job, answer: type[Answer], limits: Limits) -> Run[Answer]:
    """Run a worker to its end, or to a limit; it and all its processes are gone when this returns."""
    started = time.monotonic()
    job.work.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-", dir=job.work, ignore_cleanup_errors=True) as scratch,
        tempfile.TemporaryFile() as request,
        tempfile.TemporaryFile() as document,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as status,
    ):
        request.write(to_json(job.request, inf_nan_mode="constants"))
        request.seek(0)
        process = _start(job, limits, scratch, (request, document, said, status))
        failure = _wait(process, limits)
        barriers = _barriers(status)
        found: Answer | None = None
        if not failure and process.returncode != 0:
            failure = f"{_ending(process.returncode)}: {_tail(said)}"
        if not failure:
            found, failure = _read(document, answer, limits.answer)
    return Run(found, failure, barriers, time.monotonic() - started)


def _start(job: Job, limits: Limits, scratch: str, files: tuple[IO[bytes], ...]) -> subprocess.Popen[bytes]:
    request, document, said, status = files
    spec = confine.Spec(
        command=(sys.executable, "-P", "-m", f"{job.package}.{job.worker}", str(document.fileno())),
        reads=tuple(str(path.absolute()) for path in (*_installation(), PACKAGES / job.package.partition(".")[0], *job.reads)),
        packages=str(PACKAGES),
        scratch=scratch,
        parent=os.getpid(),
        status=status.fileno(),
        tree_bytes=limits.scratch,
        limits=_rlimits(limits),
    )
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", confine.BOOTSTRAP, str(PACKAGES), json.dumps(asdict(spec))],
        stdin=request,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env=_environment(scratch),
        cwd=scratch,
        pass_fds=(document.fileno(), status.fileno()),
        start_new_session=True,
    )


def _installation() -> tuple[Path, ...]:
    """Return what Python and the workers themselves need to read."""
    python = {Path(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    libraries = [Path(part) for part in inherited_environment().get("LD_LIBRARY_PATH", "").split(":") if part]
    ours = (PACKAGES / "policies", PACKAGES / "fleet")
    return (*python, *(prefix.resolve() for prefix in python), Path(sys.executable).resolve(), *libraries, *ours)


def _environment(scratch: str) -> dict[str, str]:
    """Return the whole environment of a worker: where things are, and every library's telemetry off."""
    return inherited_environment() | {
        "HOME": scratch,
        "TMPDIR": scratch,
        "PYTHONPATH": str(PACKAGES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
    }


def _rlimits(limits: Limits) -> dict[str, int]:
    return {
        "RLIMIT_AS": limits.address_space,
        "RLIMIT_CPU": math.ceil(limits.seconds * (os.cpu_count() or 1)) + 1,
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_CORE": 0,
    }


def _wait(process: subprocess.Popen[bytes], limits: Limits) -> str:
    """Wait for the end; stop everything at a limit, and then say at which."""
    until = time.monotonic() + limits.seconds
    passed = ""
    try:
        while not passed:
            try:
                process.wait(0.1)
                return ""
            except subprocess.TimeoutExpired:
                passed = _passed(process, limits, until)
    finally:
        _stop(process)
    return passed


def _passed(process: subprocess.Popen[bytes], limits: Limits, until: float) -> str:
    """Name the limit that the worker has passed, if any."""
    if time.monotonic() > until:
        return f"it did not end within its {limits.seconds:g} seconds and was stopped"
    tree = _tree(process)
    if len(tree) > limits.processes:
        return f"it started more than its {limits.processes} processes and was stopped"
    if sum(map(_resident, tree)) > limits.memory:
        return f"it used more than its {limits.memory / GIB:g} GiB of memory and was stopped"
    return ""


def _tree(process: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return ()


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker's processes, then those that guard it; by the guard's end the last of them is gone."""
    patience = time.monotonic() + 10
    while process.poll() is None:
        for child in reversed(_tree(process)):
            _kill(child)
        if time.monotonic() > patience:
            process.kill()
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _barriers(status: IO[bytes]) -> Barriers:
    status.seek(0)
    text = status.read()
    try:
        return TypeAdapter(Barriers).validate_json(text)
    except ValidationError:
        unknown = "the sandbox ended before it said"
        return Barriers(unknown, unknown, unknown)


def _read(document: IO[bytes], answer: type[Answer], most: int) -> tuple[Answer | None, str]:
    document.seek(0)
    text = document.read(most + 1)
    if not text:
        return None, "it ended without an answer"
    if len(text) > most:
        return None, f"its answer is longer than {most} bytes"
    adapter: TypeAdapter[Any] = TypeAdapter(answer)
    try:
        return adapter.validate_json(text), ""
    except ValidationError as problem:
        first = problem.errors(include_input=False, include_url=False)[0]
        return None, f"its answer is not what was asked for ({first['msg']})"


def _ending(code: int) -> str:
    return f"it was ended by signal {code - 128}" if code > 128 else f"it failed with exit status {code}"


def _tail(said: IO[bytes]) -> str:
    """Return the last lines that the worker wrote to stderr, printable and bounded."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - SAID_BYTES))
    lines = said.read(SAID_BYTES).decode("utf-8", "replace").splitlines()
    kept = ["".join(sign for sign in line if sign.isprintable()).strip() for line in lines[-4:]]
    return " / ".join(line for line in kept if line) or "it said nothing"
