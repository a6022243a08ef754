"""Running an image's own command without a container engine: its root read-only, its user nobody, by util-linux alone.

As root in a mount namespace, else in a user namespace where the caller's own rights count. The network is this machine's,
and the server listens on loopback. Nothing that the image says reaches a program of this machine: its variables begin with
its own command, when the root is the image's and the rights are dropped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.errors import NotSupported

HOST = "127.0.0.1"
STOP_SECONDS = 30.0
"""Between SIGTERM and SIGKILL on SageMaker."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# $1 root, $2 the mounts "FROM TO" line by line; then what enters the image.
SCRIPT = r"""
set -e
root=$1; mounts=$2; shift 2
mount --bind "$root" "$root"
printf '%s' "$mounts" | while read -r from to; do mount --rbind "$from" "$root/$to"; done
mount -t tmpfs tmpfs "$root/tmp"
mount -o remount,ro,bind "$root"
exec "$@"
"""
ENTER = """
import json, os, sys, warnings
root, folder, owner, words, variables = json.loads(sys.argv[1])
os.chroot(root)
os.chdir(folder)
if owner is not None:
    os.setgroups([])
    os.setgid(owner[1])
    os.setuid(owner[0])
os.execvpe(words[0], words, variables)
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
    if why := impossible() or unfit(run.config):
        raise NotSupported("running an image without an engine", why, "Load it into one (--load), start it, and give its URL.")
    with log.open("wb") as said:
        process = subprocess.Popen(
            _command(run), env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def impossible() -> str:
    """Say why no image can be run here, nothing where one can."""
    if shutil.which("unshare", path=PATH) is None:
        return "unshare (util-linux) is not installed"
    try:
        done = subprocess.run([*_namespace(), "true"], capture_output=True, text=True, timeout=10, check=False, env={"PATH": PATH})
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return "" if done.returncode == 0 else f"namespaces are not allowed here: {' '.join(done.stderr.split())[:200]}"


def unfit(config: Mapping[str, Any]) -> str:
    """Say why an image's command is not run here, nothing where it is: root in an image is root on a machine without an engine."""
    if not config.get("Entrypoint"):
        return "it names no command (Entrypoint)"
    if (owner := _owner(config)) is None:
        return f"its user is {config.get('User')!r}, and a number is needed to run it here"
    return "its user is root, as which it is not run" if owner[0] == 0 else ""


def _owner(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the numbers of an image's user and group (root where it says nothing), None for names."""
    user, _, group = str(config.get("User") or "0").partition(":")
    found = re.fullmatch(r"[0-9]{1,9}", user), re.fullmatch(r"[0-9]{1,9}", group or user)
    return (int(user), int(group or user)) if all(found) else None


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
    mounts = "".join(f"{source} {to.lstrip('/')}\n" for to, source in run.mounts.items())
    root = str(run.root.absolute())
    # In a user namespace there is no other user to become
    owner = _owner(run.config) if os.geteuid() == 0 else None
    told = (root, str(run.config.get("WorkingDir") or "/"), owner, [*run.config["Entrypoint"], *run.words], _variables(run))
    return [*_namespace(), "sh", "-c", SCRIPT, "sh", root, mounts, sys.executable, "-I", "-S", "-c", ENTER, json.dumps(told)]


def _variables(run: Run) -> dict[str, str]:
    found = dict(str(each).partition("=")[::2] for each in run.config.get("Env") or ())
    return {**found, **run.variables}
