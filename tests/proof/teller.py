"""Tells releases in processes forked from one that has imported everything: `python -m proof.teller`.

A line on stdin asks for one: its id, the flow, the model, where to crash, and where its output goes. Lines on stdout
answer: the id with its process when it began, and the id with its exit status (minus the signal) when it ended.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
CRASH_AT = "CONVOY_CRASH_AT"


@dataclass(frozen=True, slots=True)
class Ask:
    """One flow to run on a model; `crash_at` is 'POINT EFFECT' or nothing."""

    id: int
    flow: str
    model: str
    crash_at: str
    log: str


@dataclass(slots=True)
class Telling:
    """A flow that runs in a process of its own; `status` is there once it has ended."""

    pid: int = 0
    status: int | None = None
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float) -> int:
        """Return how the process ended; raises AssertionError when it has not within the time."""
        assert self.ended.wait(seconds), f"process {self.pid} has not ended within {seconds} s"
        assert self.status is not None
        return self.status

    def kill(self, after: float, signal_number: int) -> None:
        """Send a signal some seconds after the process began, unless it has ended by then."""
        self.began.wait(30)
        if not self.ended.wait(after):
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)


class Teller:
    """The process that forks; may be asked from several threads."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        logs.mkdir(exist_ok=True)
        self._logs = logs
        self._lock = threading.Lock()
        self._asked: dict[int, Telling] = {}
        variables = {**environment, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proof.teller"],
            cwd=ROOT,
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(logs / "teller.log").open("w"),
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, model: str, crash_at: str = "", flow: str = "release") -> Telling:
        """Begin to run a flow on a model."""
        assert self._process.stdin is not None
        with self._lock:
            number = len(self._asked) + 1
            telling = self._asked[number] = Telling()
            ask = Ask(number, flow, model, crash_at, str(self._logs / f"{number:05d}-{model}.log"))
            self._process.stdin.write(json.dumps(asdict(ask)) + "\n")
            self._process.stdin.flush()
        return telling

    def close(self) -> None:
        """End the process; what it still runs goes on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            telling = self._asked[answer["id"]]
            if "pid" in answer:
                telling.pid = answer["pid"]
                telling.began.set()
            else:
                telling.status = answer["status"]
                telling.began.set()
                telling.ended.set()


def main() -> None:
    """Import what releases need, then fork for each ask until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _import_all()
    running: dict[int, int] = {}
    asked, open_ = b"", True
    while open_ or running:
        if open_ and select.select([0], [], [], 0.03)[0]:
            read = os.read(0, 1 << 16)
            open_ = bool(read)
            *lines, asked = (asked + read).split(b"\n")
            for line in lines:
                ask = Ask(**json.loads(line))
                pid = _fork(ask)
                running[pid] = ask.id
                _answer(answers, id=ask.id, pid=pid)
        elif not open_:
            time.sleep(0.03)
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            _answer(answers, id=running.pop(pid), status=os.waitstatus_to_exitcode(status))


def _answer(answers: TextIO, **values: int) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def _fork(ask: Ask) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        log = os.open(ask.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = _run(ask)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(ask: Ask) -> int:
    """Run the flow in this process; the settings are read from the environment now."""
    import importlib
    import traceback

    os.environ.pop(CRASH_AT, None)
    if ask.crash_at:
        os.environ[CRASH_AT] = ask.crash_at
    try:
        told = getattr(importlib.import_module(f"flows.{ask.flow}"), ask.flow)(ask.model)
    except Exception:  # noqa: BLE001 - whatever it is, the log has it and the one who asked sees the status
        traceback.print_exc()
        return 1
    print(told)
    return 0


def _import_all() -> None:
    """Import what a release imports on its way too, so that no child pays for it."""
    import bentoml  # noqa: F401

    import flows.reconcile
    import flows.release
    import flows.rollback  # noqa: F401


if __name__ == "__main__":
    main()
