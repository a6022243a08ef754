"""The barriers around a container of a model's owner: namespaces, a root of its own that is read-only, and a user without rights.

    keeper   process 1 of a new process namespace, with a network namespace that has nothing but its own loopback
    front    takes requests on the socket that it was given from outside, and asks the container on that loopback
    command  the container's own, as a user who owns nothing

As root the last two are users of their own; else a user namespace is needed, in which all three are the caller without any
capability (user_namespaces(7)). Whoever kills the keeper kills all three and whatever they have started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fleet.kernel import call, numbered_call

PACKAGES = Path(__file__).resolve().parents[2]
PROBE = "import sys; sys.path.insert(0, sys.argv[1]); from clouds.local.spaces import try_out; try_out()"
PROBE_SECONDS = 20
COMMAND_USER, FRONT_USER = 65532, 65533
TMP_BYTES, SHM_BYTES = 256 << 20, 64 << 20
LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 8192),
    (resource.RLIMIT_NPROC, 2048),
    # What it says may be a file of this machine
    (resource.RLIMIT_FSIZE, TMP_BYTES),
)
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
NOT_STARTED = 126
LAST_SECONDS = 2
"""How long the front may take to hand out what the container said last."""
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_NO_NEW_PRIVS = 1, 4, 38
_NEW_NS, _NEW_UTS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE, _RELATIME = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18, 1 << 21
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET_VERSION = 0x20080522
_KILL = 1 << 5
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True)
class Inside:
    """What the keeper starts: an unpacked root, folders shown in it read-only by where, the command, its variables, its folder.

    `front` answers callers for as long as the container runs; it is called in a process of its own, with the files of
    this machine already gone.
    """

    root: Path
    shown: Mapping[str, Path]
    words: tuple[str, ...]
    variables: Mapping[str, str]
    folder: str
    front: Callable[[], None]


def impossible() -> str:
    """Say why no container can be kept apart on this machine, nothing where one can; it is tried out in a process of its own."""
    try:
        command = [sys.executable, "-P", "-c", PROBE, str(PACKAGES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return f"namespaces could not be tried out ({problem})"
    return "" if done.returncode == 0 else " ".join((done.stderr or "").split())[-300:] or "namespaces could not be tried out"


def try_out() -> None:
    """Enter every namespace and mount something, then end; what the kernel refuses is said on stderr."""
    as_root = os.geteuid() == 0
    try:
        if platform.machine() not in _PIVOT_ROOT:
            raise OSError(f"no pivot_root known on {platform.machine()}")
        enter_outer()
        _enter_inner()
        _mount("none", Path("/"), _REC | _PRIVATE)
        _mount("tmpfs", Path("/tmp"), _NOSUID | _NODEV, "tmpfs", "size=64k")  # noqa: S108 - seen by this process alone
        _loopback_up()
        _drop(COMMAND_USER, as_root)
    except OSError as problem:
        sys.exit(f"the kernel refuses what keeps a container apart ({problem})")


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the one that started it ends; where that is gone already, it ends here."""
    call("prctl", _SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("whoever started this is gone")


def enter_outer() -> None:
    """Have the children of this process in a process namespace of their own, and it in a user namespace unless it is root.

    From then on it dies with the one that started it, and they with it.
    Raises OSError where the kernel refuses.
    """
    user, group, parent = os.geteuid(), os.getegid(), os.getppid()
    call("unshare", _NEW_PID if user == 0 else _NEW_USER | _NEW_PID)
    # After unshare, which clears it
    end_with(parent)
    if user == 0:
        return
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{COMMAND_USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{COMMAND_USER} {group} 1")


def keep(inside: Inside, alive: int) -> int:
    """Be the keeper, process 1: set everything up, start front and command, and end with the command; returns its status.

    `alive` is a pipe that only whoever started this holds open to write to. SIGTERM and SIGINT are blocked by the caller:
    what comes early is heard once there is somebody to hand it on to.
    """
    as_root = os.geteuid() == 0
    # A signal to the starter's whole group is handed on by it, once
    os.setpgid(0, 0)
    call("prctl", _SET_PDEATHSIG, signal.SIGKILL)
    # It may have been killed just before, and from in here its number cannot be seen
    if select.select([alive], [], [], 0)[0]:
        return NOT_STARTED
    call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
    _enter_inner()
    _loopback_up()
    _enter_root(inside)
    if not as_root:
        # No further namespaces inside, where a process could regain capabilities; as root the number is the whole machine's
        with contextlib.suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")
    front = _started(lambda: _be_front(inside, as_root))
    command = _started(lambda: _become(inside, as_root))
    _hold(_KILL)
    # To the command alone: the front still hands out what it says last
    signal.signal(signal.SIGTERM, lambda *_: _send(command, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    while True:
        ended, status = os.wait()
        if ended == command:
            _let_end(front)
            return _status(status)
        if ended == front:
            _send(command, signal.SIGKILL)
            return NOT_STARTED


def _let_end(front: int) -> None:
    """Have the front end once its callers have their answers, or a little later."""
    signal.signal(signal.SIGALRM, lambda *_: _send(front, signal.SIGKILL))
    signal.alarm(LAST_SECONDS)
    _send(front, signal.SIGTERM)
    while os.wait()[0] != front:
        pass


def _enter_inner() -> None:
    call("unshare", _NEW_NS | _NEW_NET | _NEW_IPC | _NEW_UTS)


def _enter_root(inside: Inside) -> None:
    """Make the unpacked root the only file tree there is: read-only, with devices, /tmp in memory and what is shown."""
    root = inside.root
    _mount("none", Path("/"), _REC | _PRIVATE)
    _mount(str(root), root, _BIND)
    _mount("tmpfs", root / "tmp", _NOSUID | _NODEV, "tmpfs", f"size={TMP_BYTES},mode=1777")
    _make_devices(root / "dev")
    for where, source in inside.shown.items():
        _mount(str(source), root / where, _BIND)
        _close(root / where, _NOEXEC)
    try:
        _mount("proc", root / "proc", _NOSUID | _NODEV | _NOEXEC, "proc")
    except OSError as problem:
        say(f"the container has no /proc: {problem}")
    _close(root)
    os.chdir(root)
    numbered_call("pivot_root", _PIVOT_ROOT[platform.machine()], b".", b".")
    call("umount2", b".", _DETACH)
    os.chdir("/")


def _make_devices(folder: Path) -> None:
    _mount("tmpfs", folder, _NOSUID, "tmpfs", "size=64k,mode=755")
    for name in DEVICES:
        (folder / name).touch()
        _mount(f"/dev/{name}", folder / name, _BIND)
    for name, target in LINKS.items():
        (folder / name).symlink_to(target)
    (folder / "shm").mkdir()
    _mount("none", folder, _REMOUNT | _BIND | _RDONLY | _NOSUID)
    _mount("tmpfs", folder / "shm", _NOSUID | _NODEV | _NOEXEC, "tmpfs", f"size={SHM_BYTES},mode=1777")


def _close(target: Path, more: int = 0) -> None:
    """Make a bind mount read-only, keeping the flags that the kernel locks in a user namespace."""
    held = os.statvfs(target).f_flag
    locked = held & (os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME) | (_RELATIME if held & os.ST_RELATIME else 0)
    _mount("none", target, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | locked | more)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(probe, _GET_FLAGS, request))[1]
        fcntl.ioctl(probe, _SET_FLAGS, struct.pack("16sH14x", b"lo", flags | _UP))


def _be_front(inside: Inside, as_root: bool) -> None:
    usual_signals()
    _drop(FRONT_USER, as_root)
    # Set anew by a change of user; nobody else may look into whoever holds a socket of the machine
    call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)
    inside.front()


def _become(inside: Inside, as_root: bool) -> NoReturn:
    """Turn into the container's command, with no file of ours open but where it says what it says."""
    os.setsid()
    usual_signals()
    os.closerange(3, 1 << 16)
    os.umask(0o022)
    for name, most in LIMITS:
        hard = resource.getrlimit(name)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))
    _drop(COMMAND_USER, as_root)
    os.chdir(inside.folder)
    os.execvpe(inside.words[0], inside.words, inside.variables)  # noqa: S606 - to start a process without a shell is the point


def usual_signals() -> None:
    """Have every signal do what it does to any program; Python ignores some, and a keeper holds some back."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _drop(user: int, as_root: bool) -> None:
    """Become a user without groups, capabilities, or a way to get any."""
    if as_root:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _hold(0)


def _hold(capabilities: int) -> None:
    """Hold no capability but these, by their bits (capabilities(7))."""
    call("capset", struct.pack("=Ii", _CAPSET_VERSION, 0), struct.pack("=6I", capabilities, capabilities, 0, 0, 0, 0))


def _started(act: Callable[[], None]) -> int:
    """Do something in a child, which ends with it; what it cannot do is said on stderr."""
    pid = os.fork()
    if pid:
        return pid
    try:
        act()
    except BaseException as problem:  # noqa: BLE001 - nothing may go on in a copy of the keeper
        say(f"the container could not be started: {problem}")
    finally:
        os._exit(NOT_STARTED)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _status(waited: int) -> int:
    code = os.waitstatus_to_exitcode(waited)
    return 128 - code if code < 0 else code


def _mount(source: str, target: Path, flags: int, kind: str = "", data: str = "") -> None:
    call("mount", source.encode(), str(target).encode(), kind.encode() or None, flags, data.encode() or None)


def say(text: str) -> None:
    """Write a line to the log of this process, which is its standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - the log of a supervised process
