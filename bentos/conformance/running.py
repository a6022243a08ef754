"""Running an image's own command without a container engine: its root read-only, its user nobody, by util-linux alone.

As root in a mount namespace, else in a user namespace where the caller's own rights count. The network is this machine's,
and the server listens on loopback.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import NotSupported

HOST = "127.0.0.1"
STOP_SECONDS = 30.0
"""Between SIGTERM and SIGKILL on SageMaker."""
# $1 root, $2 its folder to start in, $3 options that drop root's rights, $4 the mounts "FROM TO" line by line; then the command.
SCRIPT = r"""
set -e
root=$1; folder=$2; rights=$3; mounts=$4; shift 4
mount --bind "$root" "$root"
printf '%s' "$mounts" | while read -r from to; do mount --rbind "$from" "$root/$to"; done
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,ro,bind "$root"
exec unshare $rights --root "$root" --wd "$folder" "$@"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """An unpacked image: its root, the section `config` of its configuration, further variables and words for its command.

    `mounts` shows folders of this machine in it, each at a folder that it has.
    """

    root: Path
    config: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    mounts: Mapping[str, Path] = field(default_factory=dict)


@contextmanager
def running(run: Run, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the image's command while the block runs; it is killed afterwards. Raises NotSupported where no such run is possible."""
    if why := impossible():
        raise NotSupported("running an image without an engine", why, "Load it into one (--load), start it, and give its URL.")
    with log.open("wb") as said:
        process = subprocess.Popen(
            _command(run), env=_variables(run), stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def impossible() -> str:
    """Say why no image can be run here, nothing where one can."""
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    try:
        done = subprocess.run([*_namespace(), "true"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return "" if done.returncode == 0 else f"namespaces are not allowed here: {' '.join(done.stderr.split())[:200]}"


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def stopped(process: subprocess.Popen[bytes]) -> int | None:
    """Send SIGTERM and return the exit status, None for a process that did not end within 30 s."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _namespace() -> list[str]:
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


def _command(run: Run) -> list[str]:
    user, _, group = str(run.config.get("User", "65532:65532")).partition(":")
    # In a user namespace there is no other user to become
    rights = f"--setgid {group or user} --setuid {user}" if os.geteuid() == 0 else ""
    mounts = "".join(f"{source} {to.lstrip('/')}\n" for to, source in run.mounts.items())
    words = [*run.config["Entrypoint"], *run.words]
    return [
        *_namespace(),
        "sh",
        "-c",
        SCRIPT,
        "sh",
        str(run.root.absolute()),
        str(run.config.get("WorkingDir") or "/"),
        rights,
        mounts,
        *words,
    ]


def _variables(run: Run) -> dict[str, str]:
    found = dict(str(each).partition("=")[::2] for each in run.config.get("Env") or ())
    # The script needs this machine's mount and unshare, the image's command its own path: it is absolute
    path = ":".join(filter(None, (found.get("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin")))
    return {**found, **run.variables, "PATH": path}
