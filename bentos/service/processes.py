"""Several serving processes behind one port, kept by one that does nothing else.

All take connections from the same socket, so that what waits there is lost with none of them: a process that is killed takes
with it only what it was answering. The first one listens at once and tells how far it is; the others start when it is
ready, and like every process started in a dead one's place they take connections only once they are ready themselves.

For gRPC, whose server takes no socket of ours, each process listens on the same address by itself (SO_REUSEPORT), and the
kernel gives each connection to one of them: a process that is killed takes with it the connections that it had.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import closing, nullcontext, suppress
from pathlib import Path

from .board import SIZE, Board
from .errors import told as told_
from .handover import Handover, listen, reserve
from .log import say
from .settings import ServiceSettings, handed_on

UNFIT = (2, 3, 5)
"""Statuses of a process that can never be ready (`errors`): no restart helps."""
NOT_STARTED = 1
STOP_SECONDS = 14.0
"""Above the ten seconds that a process takes at most to finish what it has begun, and three to write its captured rows."""
SHORTEST, LONGEST = 0.2, 30.0
"""Seconds before a process is started again: doubled for each that was never ready, from the first on after one that was."""


def supervise(settings: ServiceSettings) -> int:
    """Keep the processes running until told to stop; return the exit code: 0 after that, else that of processes all unfit."""
    listening = listen(settings)
    held = None if settings.grpc_port is None else reserve(settings.host, settings.grpc_port)
    with closing(held) if held else nullcontext(), tempfile.TemporaryDirectory(prefix="convoy-service-") as scratch:
        return asyncio.run(Processes(settings, listening, Path(scratch)).run())


class Processes:
    """The processes of one port; `scratch` is a folder for what they tell each other."""

    def __init__(self, settings: ServiceSettings, listening: socket.socket, scratch: Path) -> None:
        self._settings = settings
        self._listening = listening
        self._parity = settings.parity or scratch / "parity.json"
        self._board = _memory(scratch, settings.workers * SIZE)
        self._memory = mmap.mmap(self._board, settings.workers * SIZE)
        # held open here only: every process sees its end when this one ends, however that happens
        self._alive, self._held = os.pipe()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._first_ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._unfit = 0

    async def run(self) -> int:
        """Start, keep and at last stop them; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        kept = [asyncio.create_task(self._keep(own)) for own in range(self._settings.workers)]
        stopping = asyncio.create_task(self._stopping.wait())
        everything = asyncio.gather(*kept)
        await asyncio.wait((stopping, everything), return_when=asyncio.FIRST_COMPLETED)
        self._listening.close()
        await self._stop()
        stopping.cancel()
        await everything
        return 0 if self._stopping.is_set() else self._unfit

    async def _keep(self, own: int) -> None:
        """Run one process again and again, until all are to stop or it can never be ready."""
        if own:
            await self._until(self._first_ready)
        pause = SHORTEST
        while not self._stopping.is_set() and not self._unfit:
            status, was_ready = await self._once(own)
            if self._stopping.is_set():
                return
            if status in UNFIT:
                say(f"process {own} can never be ready (status {status})")
                self._give_up(status)
                return
            pause = SHORTEST if was_ready else min(2 * pause, LONGEST)
            say(f"process {own} ended with status {status}; it is started again in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _once(self, own: int) -> tuple[int, bool]:
        """Run one process until it ends; return its status and whether it was ready."""
        told, tells = os.pipe()
        patient = bool(self._ready)
        given = Handover(self._listening.fileno(), self._board, self._alive, tells, own, self._settings.workers, patient)
        try:
            process = await asyncio.create_subprocess_exec(*given.command(), env=self._environment(own), pass_fds=tuple(given.descriptors))
        except OSError as problem:
            # no memory or no descriptor now: the others go on, and it is tried again
            say(f"process {own} could not be started: {told_(problem)}")
            os.close(told)
            return NOT_STARTED, False
        finally:
            os.close(tells)
        loop = asyncio.get_running_loop()
        self._running[own] = process
        if self._stopping.is_set():
            process.terminate()

        def hear() -> None:
            loop.remove_reader(told)
            if os.read(told, 1):
                self._ready.add(own)
                self._first_ready.set()

        loop.add_reader(told, hear)
        status = await process.wait()
        # what a dead process said of now does not hold; what it counted does
        Board(self._memory, own, self._settings.workers).gone()
        loop.remove_reader(told)
        os.close(told)
        was_ready = own in self._ready
        self._ready.discard(own)
        del self._running[own]
        return status, was_ready

    def _environment(self, own: int) -> dict[str, str]:
        """Return a process's environment: its own counters, what MLflow answered for all of them."""
        usage = self._settings.usage
        if usage is not None and own:
            usage = usage.with_name(f"{usage.stem}.{own}{usage.suffix}")
        return handed_on({"parity": str(self._parity), "workers": "1"} | ({} if usage is None else {"usage": str(usage)}))

    def _give_up(self, status: int) -> None:
        """Take note of a process that can never be ready; where no other one answers, none ever will."""
        if not self._ready:
            self._unfit = status
            self._first_ready.set()

    async def _until(self, event: asyncio.Event) -> None:
        waits = [asyncio.create_task(each.wait()) for each in (event, self._stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()

    async def _stop(self) -> None:
        """Have every process finish what it has begun; one that does not within its time is killed."""
        running = list(self._running.values())
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            try:
                await asyncio.wait_for(process.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()


def _memory(scratch: Path, size: int) -> int:
    """Return a descriptor of memory that processes share and that ends with the last of them."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("convoy-board")
    else:
        descriptor = os.open(scratch / "board", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.ftruncate(descriptor, size)
    return descriptor
