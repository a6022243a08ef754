"""Starts one command behind every barrier that the kernel allows; the standard library alone, so that it starts quickly.

    python -I -S -c BOOTSTRAP PACKAGES SPEC        SPEC is the JSON of `Spec`

Three processes: this one; the keeper (process 1 of a new process namespace); the command, a child of the keeper.
Whoever kills this one kills all three, and nothing that the command has started outlives the keeper.

Barriers, with user_namespaces(7): a network namespace without any interface that is up, a file tree that holds only
what was named, a process tree of its own, and no capability. Where the kernel refuses them, Landlock hides files and
refuses TCP. What does not hold is reported on `Spec.status`; the resource limits hold in any case.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.kernel import call
from policies import file_tree, landlock

BOOTSTRAP = "import sys; sys.path.append(sys.argv[1]); from policies.confine import main; sys.exit(main(sys.argv[2]))"
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 36, 38
_NEW_NS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_EVERYTHING = _NEW_USER | _NEW_NET | _NEW_PID | _NEW_NS | _NEW_IPC
_INSIDE_ID = 1000
_NOT_STARTED = 126


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start: the command, the paths it may read, its scratch folder, limits as in resource.setrlimit.

    `packages` is the folder that Python searches: its names may be listed, its files are closed unless they are in `reads`.
    `parent` is the process to die with, `status` the descriptor for the barriers' JSON, `tree_bytes` the room of the
    scratch folder in memory.
    """

    command: tuple[str, ...]
    reads: tuple[str, ...]
    packages: str
    scratch: str
    parent: int
    status: int
    tree_bytes: int
    limits: Mapping[str, int]


def main(text: str) -> int:
    """Start the command of a spec and return its exit status (128 + signal number if one ended it)."""
    spec = Spec(**json.loads(text))
    os.set_inheritable(spec.status, False)
    spaces, refused = _unshare()
    # After unshare, which may clear it
    call("prctl", _SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec.parent:
        return 128 + signal.SIGKILL
    keeper = os.fork()
    if keeper == 0:
        os._exit(_keep(spec, spaces, refused))
    return _status(os.waitpid(keeper, 0)[1])


def _unshare() -> tuple[int, str]:
    """Enter new namespaces, all or the network's alone; return which, and why others were refused."""
    user, group = os.geteuid(), os.getegid()
    refused = ""
    for spaces in (_EVERYTHING, _NEW_NET):
        try:
            call("unshare", spaces)
        except OSError as problem:
            refused = refused or f"the kernel refuses the namespaces ({problem.strerror})"
            continue
        if spaces & _NEW_USER:
            Path("/proc/self/setgroups").write_text("deny")
            # Not root inside, so that the command starts without any capability
            Path("/proc/self/uid_map").write_text(f"{_INSIDE_ID} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{_INSIDE_ID} {group} 1")
        return spaces, refused
    return 0, refused


def _keep(spec: Spec, spaces: int, refused: str) -> int:
    """Be the first process: hide the files, start the command, end everything it has started."""
    call("prctl", _SET_PDEATHSIG, signal.SIGKILL)
    call("prctl", _SET_CHILD_SUBREAPER, 1)
    files = _hide_files(spec) if spaces & _NEW_NS else refused
    locked = bool(files) and landlock.version() > 0
    network = refused
    if locked and landlock.refuses_tcp():
        network = f"TCP is refused, but not UDP and Unix sockets: {refused}"
    barriers = {
        "network": "" if spaces & _NEW_NET else network,
        "processes": "" if spaces & _NEW_PID else refused,
        "files": "" if locked else files,
    }
    with os.fdopen(spec.status, "w") as status:
        json.dump(barriers, status)
    command = os.fork()
    if command == 0:
        _become(spec, locked)
    ended = _reap(command)
    _end_the_rest()
    return ended


def _hide_files(spec: Spec) -> str:
    """Enter the file tree; return why not, if the kernel refuses."""
    try:
        file_tree.enter(Path(spec.scratch), spec.reads, spec.tree_bytes)
    except OSError as problem:
        return f"the kernel refuses a file tree ({problem})"
    return ""


def _become(spec: Spec, locked: bool) -> None:
    """Turn into the command, or end with the reason on stderr."""
    try:
        os.chdir(spec.scratch)
        os.umask(0o077)
        call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if locked:
            landlock.enter(Path(spec.scratch), spec.reads, lists=(spec.packages,))
        for name, value in spec.limits.items():
            resource.setrlimit(getattr(resource, name), (value, value))
        os.execv(spec.command[0], spec.command)  # noqa: S606 - to start a process without a shell is the point
    except (OSError, ValueError) as problem:
        os.write(2, f"the command could not be started: {problem}\n".encode())
    finally:
        os._exit(_NOT_STARTED)


def _reap(command: int) -> int:
    """Collect ended processes until the command has ended."""
    while True:
        pid, status = os.wait()
        if pid == command:
            return _status(status)


def _end_the_rest() -> None:
    """Kill what the command has left behind; in a process namespace the kernel does so when the keeper ends."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while left := children.read_text().split() if children.exists() else []:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        os.wait()


def _status(waited: int) -> int:
    code = os.waitstatus_to_exitcode(waited)
    return 128 - code if code < 0 else code
