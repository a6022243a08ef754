"""Stops the local stack and leaves none of its processes behind; its data stays."""

from __future__ import annotations

import psutil

from clouds.local.files import exclusive
from clouds.local.supervisor import Supervisor
from control.stack.marked import end_marked
from control.stack.records import recorded_stack
from fleet.home import Home
from fleet.settings import Settings

LOCK_SECONDS = 240.0
END_SECONDS = 5.0


def down(settings: Settings) -> tuple[str, ...]:
    """Stop every process of the stack and return their names; nothing where nothing runs.

    Finds them by the stack's mark too, so the supervisor may be dead already. Raises OperationFailed that names what
    would not end.
    """
    home = Home.of(settings)
    stack = recorded_stack(home)
    if stack is None:
        return ()
    with exclusive(home.root / "stack.lock", LOCK_SECONDS):
        supervised = _end_supervisor(Supervisor.of(home))
        return (*supervised, *end_marked(stack.stack_id))


def _end_supervisor(supervisor: Supervisor) -> tuple[str, ...]:
    if not supervisor.alive():
        return ()
    running = tuple(process.name for process in supervisor.processes() if process.pid)
    itself = psutil.Process(supervisor.pid())
    supervisor.shutdown()
    # It closes its socket a moment before it ends
    psutil.wait_procs([itself], timeout=END_SECONDS)
    return (*running, "supervisord")
