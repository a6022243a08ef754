"""What one process of the service hands to the next: descriptors by their numbers, and what is known already.

It is the one argument of `python -m convoy_service` beside the word `serve`, and nobody but the service itself gives it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from .errors import SettingsWrong, told
from .settings import ServiceSettings

BACKLOG = 2048
SERVE = "serve"
"""The word that SageMaker puts behind the command of a container that is to serve."""


@dataclass(frozen=True, slots=True)
class Handover:
    """How a process takes over.

    `listening` is the socket, `board` the memory for figures with a part for each of `processes`, of which `own` is this
    one's. `alive` ends when the process that started this one does, `ready` is written to once. A `patient` process takes
    no connection before it is ready. `because` says why MLflow answers although the model could be asked directly.
    """

    listening: int | None = None
    board: int | None = None
    alive: int | None = None
    ready: int | None = None
    own: int = 0
    processes: int = 1
    patient: bool = False
    because: str = ""

    @classmethod
    def read(cls, arguments: list[str]) -> Handover:
        """Return what the process was given; raises SettingsWrong for an argument that is none of ours."""
        if arguments in ([], [SERVE]):
            return cls()
        try:
            (text,) = arguments
            return cls(**json.loads(text))
        except (ValueError, TypeError) as problem:
            raise SettingsWrong("it takes no arguments but `serve`; everything is set by variables") from problem

    @property
    def descriptors(self) -> Iterator[int]:
        """What the next process must inherit."""
        yield from (each for each in (self.listening, self.board, self.alive, self.ready) if each is not None)

    def command(self) -> list[str]:
        """Return what starts the process that takes over."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, "", False)}
        return [sys.executable, "-B", "-m", __package__ or "convoy_service", json.dumps(given)]


def listen(settings: ServiceSettings) -> socket.socket:
    """Return the listening socket; raises SettingsWrong when the address cannot be listened on."""
    try:
        return socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    except OSError as problem:
        raise SettingsWrong(f"cannot listen on {settings.host}:{settings.port} ({told(problem)})") from problem


def reserve(host: str, port: int) -> socket.socket:
    """Keep an address for processes that share it and listen by themselves, for as long as the socket is open.

    Raises SettingsWrong when somebody else has it.
    """
    held = socket.socket()
    try:
        # whoever shares an address is not refused by those who share it too, so it must be nobody's first
        socket.create_server((host, port)).close()
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        held.bind((host, port))
    except OSError as problem:
        held.close()
        raise SettingsWrong(f"cannot listen on {host}:{port} for gRPC ({told(problem)})") from problem
    return held


def begin_again(given: Handover, listening: socket.socket, because: str) -> None:
    """Become a new process of the same id that asks MLflow: what this one has imported would be in its way."""
    following = replace(given, listening=listening.fileno(), because=because)
    for descriptor in following.descriptors:
        os.set_inheritable(descriptor, True)
    sys.stderr.flush()
    os.execv(sys.executable, following.command())  # noqa: S606  our own interpreter, our own module
