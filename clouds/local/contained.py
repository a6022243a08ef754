"""Serves an unpacked revision by the container that it brings, in the place of `convoy_service` and by the same variables.

    python -P -c BOOTSTRAP PACKAGES        CONVOY_SERVICE_ROOT, HOST, PORT, MODEL, REVISION, REGION (and USAGE)

The files are held against the revision's digest, and the container's root against the one that it names, before anything of
it is run. It ends with the statuses of the service: 2 for wrong settings, 3 for other files, 5 where it can never run.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from clouds.local.counters import counting
from clouds.local.spaces import PACKAGES, Inside, end_with, enter_outer, impossible, keep, say
from fleet.contained import Contained, contained_in, is_contained, root_digest, root_of
from fleet.errors import ConvoyError, InputError, IntegrityError, NotSupported
from fleet.manifest import manifest_named

PREFIX = "CONVOY_SERVICE_"
BOOTSTRAP = "import sys; sys.path.insert(0, sys.argv[1]); from clouds.local.contained import main; sys.exit(main())"
SHOWN = "opt/convoy/revision"
"""Where a container finds the revision's files, as in the images that Convoy makes."""
HANDED_ON = ("HOST", "PORT", "MODEL", "REVISION", "REGION")
USUAL = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp"}  # noqa: S108 - within the container
"""What an image that says nothing of it gets."""
REMEDY = "Serve it on a machine of its architecture that allows namespaces (docs/packaging.md), or the model by Convoy's service."
LOOK_SECONDS = 0.5
MOST_PROCESSES = 256
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
ENDING = (signal.SIGTERM, signal.SIGINT)
FAILED, SETTINGS_WRONG, FILES_DIFFER, UNUSABLE = 1, 2, 3, 5


@dataclass(frozen=True, slots=True)
class Order:
    """What is served where: the unpacked revision, the address, and the variables by their names without their prefix."""

    root: Path
    host: str
    port: int
    told: Mapping[str, str]


def command() -> tuple[str, ...]:
    """Return the words that serve a revision which brings a container of its own."""
    return (sys.executable, "-P", "-c", BOOTSTRAP, str(PACKAGES))


def check_servable(root: Path) -> None:
    """Raise NotSupported where an unpacked revision brings a container that this machine cannot run, or not keep apart."""
    if is_contained(root) and (why := _unfit(root) or impossible()):
        raise NotSupported("serving a container of one's own", why, REMEDY)


def is_laid(root: Path) -> bool:
    """Say whether an unpacked revision has the root of its container beside it, as it names it; true for one that brings none."""
    try:
        return not is_contained(root) or (root_of(root).is_dir() and root_digest(root_of(root)) == contained_in(root).root)
    except (IntegrityError, OSError):
        return False


def _unfit(root: Path) -> str:
    wanted, here = contained_in(root).architecture, platform.machine()
    return "" if ARCHITECTURES.get(here) == wanted else f"its image is for {wanted}, and this machine is {here}"


def main() -> int:
    """Serve as the environment says until the container ends, or something has it end."""
    end_with(os.getppid())
    try:
        order = _order(os.environ)
        container = _verified(order)
        if why := _unfit(order.root):
            raise NotSupported("the container", why)
        enter_outer()
    except IntegrityError as problem:
        return _said(problem, FILES_DIFFER)
    except (KeyError, ValueError, InputError) as problem:
        return _said(problem, UNUSABLE if isinstance(problem, NotSupported) else SETTINGS_WRONG)
    except OSError as problem:
        return _said(problem, UNUSABLE)
    try:
        return _serve(order, container)
    except OSError as problem:
        # A port that somebody has now may be free later
        return _said(problem, FAILED)


def _order(environment: Mapping[str, str]) -> Order:
    told = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
    return Order(Path(told["ROOT"]), told["HOST"], int(told["PORT"]), told)


def _verified(order: Order) -> Contained:
    """Return what the revision says of its container once every file was held against its digest; raises IntegrityError."""
    if not is_contained(order.root):
        raise IntegrityError(str(order.root), "brings no container")
    found = manifest_named(order.root, order.told["REVISION"]).digest
    if found != order.told["REVISION"]:
        raise IntegrityError(str(order.root), f"is {found}, not {order.told['REVISION']}")
    container = contained_in(order.root)
    laid = root_of(order.root)
    if not laid.is_dir() or (lies := root_digest(laid)) != container.root:
        raise IntegrityError(str(laid), f"is not the root {container.root}{f' but {lies}' if laid.is_dir() else ': it is not there'}")
    # Its user is another one, and all of it lies within a folder that only we may enter
    for path in (order.root, *order.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return container


def _serve(order: Order, container: Contained) -> int:
    # Here alone: whoever starts this from outside needs no HTTP server
    from clouds.local.front import WAITING_BYTES, Front

    listening = socket.create_server((order.host, order.port), backlog=1024)
    room = min(WAITING_BYTES, container.memory_bytes // 4)
    front = Front(listening, order.host, order.port, _count(order), room, order.told["REVISION"])
    variables = {**USUAL, **dict(each.partition("=")[::2] for each in container.variables), **_variables(order.told)}
    inside = Inside(root_of(order.root).absolute(), {SHOWN: order.root.absolute()}, container.words, variables, container.folder, front.run)
    alive, held = os.pipe()
    # Until there is somebody to hand them on to
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    keeper = os.fork()
    if keeper == 0:
        os.close(held)
        _keep(inside, alive)
    os.close(alive)
    listening.close()
    for number in ENDING:
        signal.signal(number, lambda *_: _send(keeper, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    return _watch(keeper, container.memory_bytes)


def _keep(inside: Inside, alive: int) -> None:
    status = UNUSABLE
    try:
        # A command's own status is no word on whether it can ever run here
        status = FAILED if (found := keep(inside, alive)) == UNUSABLE else found
    except BaseException as problem:  # noqa: BLE001 - nothing may go on in a copy of this process
        say(f"the container cannot be kept apart here: {problem}")
    finally:
        os._exit(status)


def _variables(told: Mapping[str, str]) -> dict[str, str]:
    """Return what a container is told: the variables of Convoy's own service, with its own place for the files."""
    return {PREFIX + name: told[name] for name in HANDED_ON if name in told} | {PREFIX + "ROOT": f"/{SHOWN}"}


def _count(order: Order) -> Callable[[str, int, int, int], None]:
    """Return what counts answers; where it cannot be had, callers are answered all the same."""
    if "USAGE" in order.told:
        label = {"model": order.told["MODEL"], "region": order.told["REGION"], "revision": order.told["REVISION"]}
        try:
            return counting(Path(order.told["USAGE"]), label, os.getpid())
        except OSError as problem:
            say(f"usage is not counted: {problem}")
    return lambda *_: None


def _watch(keeper: int, memory_bytes: int) -> int:
    """Wait for the keeper's end, and bring it about where the container takes more than it may; returns 0 or 1."""
    while True:
        ended, status = os.waitpid(keeper, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            say(f"the container ended with {code}")
            return UNUSABLE if code == UNUSABLE else min(FAILED, abs(code))
        if why := _passed(keeper, memory_bytes):
            say(f"the container was ended: {why}")
            _send(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
            return FAILED
        time.sleep(LOOK_SECONDS)


def _passed(keeper: int, memory_bytes: int) -> str:
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(keeper).children(recursive=True)
        if len(family) > MOST_PROCESSES:
            return f"it has more than {MOST_PROCESSES} processes"
        if sum(map(_resident, family)) > memory_bytes:
            return f"it has more than {memory_bytes >> 20} MiB resident"
    return ""


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _said(problem: Exception, status: int) -> int:
    told = f"{problem.subject} {problem.reason}" if isinstance(problem, ConvoyError) else f"{type(problem).__name__}: {problem}"
    say(told)
    return status
