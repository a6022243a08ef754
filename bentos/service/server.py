"""The serving process: listens at once, verifies, loads, answers, and finishes what it has begun when told to stop."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from .app import App
from .desk import Desk
from .errors import SettingsWrong, told
from .readiness import Readiness, start
from .settings import ServiceSettings
from .worker import Worker

DRAIN_SECONDS = 10
FAREWELL_SECONDS = 1.0
# Above an edge's idle timeout (an hour in Envoy): a connection that this side closes while a request is on its way is a
# reset, which counts against the revision.
KEEP_ALIVE_SECONDS = 3900


class Draining(uvicorn.Server):
    """A uvicorn server that ends with status 0 after a drain; uvicorn's own raises the signal once more.

    `beside` is the gRPC server, which is drained at the same time.
    """

    beside: Any = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as the wish to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way on both servers."""
        waiting = [] if self.beside is None else [self.beside.stop(DRAIN_SECONDS)]
        await asyncio.gather(super().shutdown(sockets), *waiting)


def serve(settings: ServiceSettings) -> int:
    """Serve until told to stop; return the exit code: 0 after a drain, else that of the reason in the log.

    Raises SettingsWrong when the address cannot be listened on.
    """
    listening = _listen(settings)
    readiness = Readiness(revision=settings.revision or "unmeasured")
    app = App(settings, readiness, Worker(settings.slots))
    configuration = _configuration(settings, app)
    with asyncio.Runner(loop_factory=configuration.get_loop_factory()) as runner:
        runner.run(_run(Draining(configuration), listening, app.desk))
    if readiness.capture is not None:
        readiness.capture.close()
    return readiness.exit_code


async def _run(server: Draining, listening: socket.socket, desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    if desk.settings.grpc_port is not None:
        # only here: whoever does not want it need not have it
        from .grpc_server import listen

        server.beside = await listen(desk.settings, desk)

    def failed() -> None:
        loop.call_soon_threadsafe(loop.call_later, FAREWELL_SECONDS, _stop, server)

    threading.Thread(target=start, args=(desk.settings, desk.readiness, failed), name="start", daemon=True).start()
    await server.serve(sockets=[listening])


def _listen(settings: ServiceSettings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port), backlog=2048)
    except OSError as problem:
        raise SettingsWrong(f"cannot listen on {settings.host}:{settings.port} ({told(problem)})") from problem


def _stop(server: Draining) -> None:
    """End a process that can never be ready, once whoever asks for its health can have read why."""
    server.should_exit = True


def _configuration(settings: ServiceSettings, app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        interface="asgi3",
        lifespan="off",
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
