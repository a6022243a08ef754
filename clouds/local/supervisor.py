"""The one adapter to supervisord: its configuration, its start, and its XML-RPC over a unix socket.

Whoever may open the socket may run anything, so the socket and all its folder belong to the owner alone.
"""

from __future__ import annotations

import http.client
import os
import signal as signals
import socket as sockets
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from clouds.local.files import exclusive, write_private
from clouds.local.program import NAME, Program, escaped
from fleet.errors import Busy, InputError, OperationFailed, UnknownName, Unreachable
from fleet.home import Home
from fleet.settings import STACK_MARK, inherited_environment

__all__ = ["Process", "ProcessState", "Program", "Supervisor", "configuration", "launch"]

SOCKET_PATH_BYTES = 107
"""Linux's limit for the path of a unix socket (unix(7): 108 with the closing NUL)."""
BIND_SUFFIX = ".4194304"
"""supervisord first binds `<socket>.<its pid>`; this is the largest pid that Linux gives."""
ANSWER_SECONDS = 10.0
LAUNCH_SECONDS = 20.0
STOP_SECONDS = 90.0
POLL_SECONDS = 0.05


class ProcessState(StrEnum):
    """What the supervisor says of a program; `absent` is ours: it knows none by that name."""

    ABSENT = "absent"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    FATAL = "fatal"
    UNKNOWN = "unknown"


STOPPED_STATES = frozenset({ProcessState.STOPPED, ProcessState.EXITED, ProcessState.FATAL, ProcessState.UNKNOWN, ProcessState.ABSENT})


@dataclass(frozen=True, slots=True)
class Process:
    """One supervised process as it is now.

    `pid` is None unless it runs, `exit_status` is known only when it ended after a start that had succeeded, `problem`
    says why it did not start.
    """

    name: str
    state: ProcessState
    pid: int | None
    exit_status: int | None
    problem: str
    log: Path


def configuration(home: Home, stack_id: str) -> str:
    """Return the text of supervisord.conf; raises InputError for a home that cannot hold a supervisor.

    supervisord turns itself into a daemon. It insists on a pid file; nothing of ours reads it.
    """
    room = len(str(home.supervisor_socket).encode()) + len(BIND_SUFFIX) - SOCKET_PATH_BYTES
    if room > 0:
        raise InputError(
            str(home.root),
            f"the home lies too deep: a unix socket's path has {SOCKET_PATH_BYTES} bytes at most, this one would have {room} more",
            "Set CONVOY_HOME to a shorter path.",
        )
    if any(character in str(home.root) for character in "*?[\n\r\0") or str(home.root) != str(home.root).strip():
        raise InputError(
            str(home.root), "supervisord cannot work in a folder with *, ?, [ or a line break", "Set CONVOY_HOME to a plainer path."
        )
    if not NAME.fullmatch(stack_id):
        raise InputError(f"stack {stack_id!r}", "a stack's id has letters, digits, dots, dashes and underscores only")
    logs, folder = escaped(str(home.logs)), escaped(str(home.supervisor))
    return f"""\
[unix_http_server]
file={folder}/{home.supervisor_socket.name}
chmod=0700

[supervisord]
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
loglevel=warn
pidfile={folder}/supervisord.pid
childlogdir={logs}
nodaemon=false
umask=077
identifier=convoy
environment={STACK_MARK}="{stack_id}"

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[include]
files={home.programs.name}/*.conf
"""


def launch(home: Home, stack_id: str) -> Supervisor:
    """Start the home's supervisor unless it answers already, and return it once it does.

    Raises OperationFailed with what it said when it does not answer in time, InputError for an impossible home.
    """
    supervisor = Supervisor(home.supervisor_socket)
    text = configuration(home, stack_id)
    for folder in (home.root, home.supervisor, home.programs, home.logs):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # supervisord's own check for a stale socket may delete a live one when two start at once
    with exclusive(home.supervisor / "launching.lock", 2 * LAUNCH_SECONDS):
        if not supervisor.alive():
            file = home.supervisor / "supervisord.conf"
            write_private(file, text.encode())
            _start(file, stack_id, supervisor)
    return supervisor


def _start(file: Path, stack_id: str, supervisor: Supervisor) -> None:
    ended = subprocess.run(
        # -P: nothing lying in the working folder is imported; utf8: it reads its files so under any locale
        [sys.executable, "-P", "-X", "utf8", "-m", "supervisor.supervisord", "-c", str(file)],
        cwd=file.parent,
        env={**inherited_environment(), STACK_MARK: stack_id},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LAUNCH_SECONDS,
        check=False,
    )
    if ended.returncode != 0 or not _within(LAUNCH_SECONDS, supervisor.alive):
        said = (ended.stderr or ended.stdout).strip()[-500:] or "it said nothing"
        raise OperationFailed("supervisord", f"did not start: {said}", "See logs/supervisord.log in the home.")


class Supervisor:
    """A running supervisord, reached through its socket; constructing one opens nothing.

    Every verb raises Unreachable when nobody answers and UnknownName for a program that is not there, unless it says
    otherwise.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.programs = socket.parent / "programs"

    @classmethod
    def of(cls, home: Home) -> Supervisor:
        """Return the supervisor of a home."""
        return cls(home.supervisor_socket)

    def alive(self) -> bool:
        """Say whether it answers and is not about to end."""
        try:
            return str(self._call("getState")["statename"]) == "RUNNING"
        except (Unreachable, Busy):
            return False

    def pid(self) -> int:
        """Return the supervisor's own process id."""
        return int(self._call("getPID"))

    def add(self, program: Program) -> None:
        """Have exactly this program: new it is added, changed it is stopped and added again, the same it is left alone."""
        self.programs.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.file(program.name), program.section().encode())
        program.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        ((_, changed, _),) = self._call("reloadConfig")
        if program.name in changed:
            self.stop(program.name)
            self._call("removeProcessGroup", program.name, accept=(FAULT_NO_SUCH_NAME,))
        self._call("addProcessGroup", program.name, accept=(FAULT_ALREADY_ADDED,))

    def remove(self, name: str) -> None:
        """Stop a program and forget it; one that is not there is fine."""
        self.file(name).unlink(missing_ok=True)
        if self.state(name) is ProcessState.ABSENT:
            return
        self.stop(name)
        self._call("reloadConfig")
        self._call("removeProcessGroup", name, accept=(FAULT_NO_SUCH_NAME,))

    def start(self, name: str) -> None:
        """Start a program without waiting for it; one that runs is left alone."""
        self._call("startProcess", name, False, accept=(FAULT_ALREADY_STARTED,))

    def stop(self, name: str) -> None:
        """Stop a program and wait until it has ended; one that does not run is left alone."""
        self._call("stopProcess", name, False, accept=(FAULT_NOT_RUNNING,))
        if not _within(STOP_SECONDS, lambda: self.state(name) in STOPPED_STATES):
            raise OperationFailed(f"program '{name}'", f"still runs {STOP_SECONDS:.0f} s after it was told to stop")

    def kill(self, name: str) -> bool:
        """SIGKILL a program's whole group and have it stay ended; False when it does not run, else returns once it is gone.

        supervisord starts a killed program again unless it believes to have stopped it, and stopping begins with
        SIGTERM. So the group is frozen first: it dies of the SIGKILL before it could handle the SIGTERM.
        """
        process = self.process(name)
        if process is None or process.pid is None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signals.SIGSTOP)
            try:
                self._call("stopProcess", name, False, accept=(FAULT_NOT_RUNNING,))
            except BaseException:
                os.killpg(process.pid, signals.SIGCONT)
                raise
            os.killpg(process.pid, signals.SIGKILL)
        if not _within(STOP_SECONDS, lambda: self.state(name) in STOPPED_STATES):
            raise OperationFailed(f"program '{name}'", f"still runs {STOP_SECONDS:.0f} s after it was killed")
        return True

    def thaw(self, name: str) -> None:
        """Let a program go on, or end, whose killer was itself killed after it had frozen it; any other is not disturbed."""
        process = self.process(name)
        if process is None or process.pid is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signals.SIGCONT)
        if process.state is ProcessState.STOPPING:
            self.stop(name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to a running program."""
        self._call("signalProcess", name, signal)

    def state(self, name: str) -> ProcessState:
        """Return a program's state, `absent` for one that is not there."""
        found = self.process(name)
        return found.state if found else ProcessState.ABSENT

    def process(self, name: str) -> Process | None:
        """Return one program's process, None for one that is not there."""
        found = self._call("getProcessInfo", name, accept=(FAULT_NO_SUCH_NAME,))
        return _process(found) if found else None

    def processes(self) -> tuple[Process, ...]:
        """Return every program's process."""
        return tuple(_process(found) for found in self._call("getAllProcessInfo"))

    def shutdown(self) -> None:
        """Stop every program and the supervisor itself, and wait until it is gone; one that is gone already is fine."""
        with suppress(Unreachable, Busy):
            self._call("shutdown")
        if not _within(STOP_SECONDS, lambda: not self._answers()):
            raise OperationFailed("supervisord", f"still answers {STOP_SECONDS:.0f} s after it was told to end")

    def file(self, name: str) -> Path:
        """Return where a program's file lies."""
        return self.programs / f"{name}.conf"

    def _answers(self) -> bool:
        """Say whether anybody listens, be it one that is about to end."""
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _call(self, verb: str, *arguments: str | bool, accept: tuple[int, ...] = ()) -> Any:
        """Call a verb of supervisord and translate its faults by code; an accepted fault gives None."""
        try:
            with _server(self.socket) as server:
                return getattr(server.supervisor, verb)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in accept:
                return None
            raise _error(verb, arguments, fault) from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as problem:
            raise Unreachable("supervisord", f"does not answer on {self.socket} ({problem})", "Start the stack: `convoy up`.") from problem


FAULT_SHUTTING_DOWN = 6
FAULT_NO_SUCH_NAME = 10
FAULT_ALREADY_STARTED = 60
FAULT_NOT_RUNNING = 70
FAULT_ALREADY_ADDED = 90


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket, with a time limit, which supervisor's own connection lacks."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=ANSWER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(self.path))


@contextmanager
def _server(path: Path) -> Iterator[xmlrpc.client.ServerProxy]:
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{path}")
    transport._get_connection = lambda: _Connection(path)
    with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
        yield server


def _error(verb: str, arguments: tuple[str | bool, ...], fault: xmlrpc.client.Fault) -> Exception:
    subject = f"program '{arguments[0]}'" if arguments else "supervisord"
    if fault.faultCode == FAULT_NO_SUCH_NAME:
        return UnknownName(subject, "the supervisor knows no such program")
    if fault.faultCode == FAULT_SHUTTING_DOWN:
        return Busy("supervisord", "is shutting down", "Wait until it has ended, then `convoy up`.")
    return OperationFailed(subject, f"{verb} failed: {fault.faultString}")


def _process(found: dict[str, Any]) -> Process:
    state = ProcessState(str(found["statename"]).lower())
    return Process(
        name=found["name"],
        state=state,
        pid=found["pid"] or None,
        # supervisord forgets the status of a start that failed and reports 0
        exit_status=found["exitstatus"] if state is ProcessState.EXITED else None,
        problem=found["spawnerr"],
        log=Path(found["stdout_logfile"]),
    )


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Poll a condition until it holds, at least once; say whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
