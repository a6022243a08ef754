"""The processes of a stack, found by the mark in their environment, and their end."""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from fleet.errors import OperationFailed
from fleet.settings import STACK_MARK

TERM_SECONDS = 5.0
KILL_SECONDS = 5.0
ROUNDS = 5


def marked(stack_id: str) -> list[psutil.Process]:
    """Return this user's processes that carry the stack's mark, but for this one and those it came from."""
    here = psutil.Process()
    family = {here.pid, *(parent.pid for parent in here.parents())}
    return [process for process in psutil.process_iter() if process.pid not in family and _carries(process, stack_id)]


def end_marked(stack_id: str) -> tuple[str, ...]:
    """End every process that carries the mark and return their names; none is left.

    Politely first, then by SIGKILL; in rounds, since a process may start another while it ends. Raises
    OperationFailed that names what would not end.
    """
    ended: list[str] = []
    for _ in range(ROUNDS):
        left = marked(stack_id)
        if not left:
            return tuple(ended)
        ended += [_name(process) for process in left]
        _end(left)
    left = marked(stack_id)
    if left:
        raise OperationFailed("stack", f"processes {', '.join(str(process.pid) for process in left)} do not end", "Look at them with ps.")
    return tuple(ended)


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=TERM_SECONDS)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, timeout=KILL_SECONDS)


def _carries(process: psutil.Process, stack_id: str) -> bool:
    """Say whether a process of ours has the mark; one that ended meanwhile or belongs to others has not."""
    try:
        return process.uids().real == os.getuid() and process.environ().get(STACK_MARK) == stack_id
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _name(process: psutil.Process) -> str:
    try:
        return f"{process.name()} ({process.pid})"
    except psutil.NoSuchProcess:
        return f"process {process.pid}"
