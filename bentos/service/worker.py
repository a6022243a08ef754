"""One thread that predicts, so that the event loop goes on answering health checks and reading requests."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import Overloaded

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work and where its outcome goes."""

    work: Callable[[], Any]
    outcome: asyncio.Future[Any]


class Worker:
    """Runs one job after the other in a thread of its own; `slots` jobs may be inside at once.

    The thread is a daemon and not a pool's: a prediction that never returns must not keep a drained process alive.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._inside = 0
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="predictions", daemon=True).start()

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what the work returns; raises what it raises, or Overloaded when every slot is taken."""
        if self._inside >= self._slots:
            raise Overloaded(f"{self._slots} requests are waiting already", 1.0)
        outcome: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._inside += 1
        # a caller that leaves frees its slot only when the thread is done with its job
        outcome.add_done_callback(self._leave)
        self._jobs.put(Job(work, outcome))
        return await asyncio.shield(outcome)

    def _leave(self, outcome: asyncio.Future[Any]) -> None:
        self._inside -= 1
        # reads the exception, so that asyncio does not report one that nobody waits for any more
        if not outcome.cancelled():
            outcome.exception()

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            loop = job.outcome.get_loop()
            try:
                result = job.work()
            except Exception as problem:  # noqa: BLE001  handed to whoever waits; the thread must go on
                loop.call_soon_threadsafe(job.outcome.set_exception, problem)
            else:
                loop.call_soon_threadsafe(job.outcome.set_result, result)
