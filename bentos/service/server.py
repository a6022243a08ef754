"""The serving process: listens at once, verifies, loads, answers, and finishes what it has begun when told to stop."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from .app import App
from .board import SIZE, Board
from .desk import Desk
from .handover import Handover, begin_again, listen
from .heads import Bounded
from .loading import OnlyMlflow
from .log import say
from .readiness import Readiness, start
from .settings import ServiceSettings
from .worker import Worker

DRAIN_SECONDS = 10
FAREWELL_SECONDS = 1.0
# Above an edge's idle timeout (an hour in Envoy): a connection that this side closes while a request is on its way is a
# reset, which counts against the revision.
KEEP_ALIVE_SECONDS = 3900


class Configuration(uvicorn.Config):
    """uvicorn's, and whether the server was told to stop: a connection that was waiting to be taken then is not among those it ends."""

    draining = False


class Draining(uvicorn.Server):
    """A uvicorn server that ends with status 0 after a drain; uvicorn's own raises the signal once more.

    `beside` is the gRPC server, which is drained at the same time.
    """

    beside: Any = None
    config: Configuration

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the wish to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way on both servers."""
        self.config.draining = True
        waiting = [] if self.beside is None else [self.beside.stop(DRAIN_SECONDS)]
        await asyncio.gather(super().shutdown(sockets), *waiting)


def serve(settings: ServiceSettings, given: Handover) -> int:
    """Serve until told to stop; return the exit code: 0 after a drain, else that of the reason in the log.

    Raises SettingsWrong when the address cannot be listened on.
    """
    listening = listen(settings) if given.listening is None else socket.socket(fileno=given.listening)
    readiness = Readiness(revision=settings.revision or "unmeasured", because=given.because)
    board = Board(None if given.board is None else mmap.mmap(given.board, SIZE * given.processes), given.own, given.processes)
    app = App(settings, readiness, Worker(settings.slots), board)
    configuration = _configuration(settings, app)
    with asyncio.Runner(loop_factory=configuration.get_loop_factory()) as runner:
        runner.run(_Process(Draining(configuration), listening, app.desk, given).run())
    board.gone()
    if readiness.capture is not None:
        readiness.capture.close()
    return readiness.exit_code


class _Process:
    """One serving process from its start to its end."""

    def __init__(self, server: Draining, listening: socket.socket, desk: Desk, given: Handover) -> None:
        self._server = server
        self._listening = listening
        self._desk = desk
        self._readiness = desk.readiness
        self._given = given
        self._settled = asyncio.Event()

    async def run(self) -> None:
        """Start, listen (at once, or once it is ready), and return when it was told to stop or can never be ready.

        Raises SettingsWrong when the address for gRPC cannot be listened on.
        """
        loop = asyncio.get_running_loop()

        def outcome() -> None:
            self._settled.set()
            if self._readiness.scorer is not None:
                # the libraries' and the model's objects stay: looking through them for garbage again and again takes long
                gc.collect()
                gc.freeze()
                self._desk.board.ready()
                _tell(self._given.ready)
            else:
                loop.call_later(0.0 if self._given.patient else FAREWELL_SECONDS, self._stop)

        if self._given.alive is not None:
            loop.add_reader(self._given.alive, self._orphaned)
        threading.Thread(target=self._start, args=(lambda: loop.call_soon_threadsafe(outcome),), name="start", daemon=True).start()
        if self._given.patient:
            await self._settled.wait()
        if (self._readiness.scorer is not None or not self._given.patient) and not self._server.should_exit:
            await self._serve()

    async def _serve(self) -> None:
        if self._desk.settings.grpc_port is not None:
            # only here: whoever does not want it need not have it
            from .grpc_server import listen_beside

            self._server.beside = await listen_beside(self._desk, shared=self._given.processes > 1)
        await self._server.serve(sockets=[self._listening])

    def _start(self, settled: Callable[[], None]) -> None:
        try:
            start(self._desk.settings, self._readiness)
        except OnlyMlflow as problem:
            say(f"begins again through MLflow: {problem}")
            begin_again(self._given, self._listening, str(problem))
        finally:
            settled()

    def _stop(self) -> None:
        """End a process that can never be ready, once whoever asks for its health can have read why."""
        self._server.should_exit = True

    def _orphaned(self) -> None:
        """End with whoever started this process: another one would find the port taken."""
        assert self._given.alive is not None
        asyncio.get_running_loop().remove_reader(self._given.alive)
        self._stop()
        # one that waits to be ready need not any more: it has the port, too
        self._settled.set()


def _tell(ready: int | None) -> None:
    """Tell whoever started this process that it is ready."""
    if ready is not None:
        with suppress(OSError):
            os.write(ready, b"1")
        os.close(ready)


def _configuration(settings: ServiceSettings, app: App) -> Configuration:
    return Configuration(
        app,
        http=Bounded,
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        # nobody asks for a caller's address
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
