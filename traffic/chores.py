"""What an agent does over and over beside answering: each chore in a thread of its own, so that none delays another."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from fleet.errors import ConvoyError

log = logging.getLogger(__name__)
Chore = Callable[[], None]


class Chores:
    """Runs each chore with a pause of so many seconds between two turns.

    An error of the one tree is logged and the chore goes on; any other ends the chore, sets `failed` and calls
    `stop`, so that the process ends and its supervisor starts a sound one.
    """

    def __init__(self, chores: Mapping[Chore, float], stop: Callable[[], None]) -> None:
        self.failed = False
        self._stop = stop
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=item, daemon=True) for item in chores.items()]

    def __enter__(self) -> Chores:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_problem: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, chore: Chore, pause: float) -> None:
        done = False
        said = ""
        try:
            while not self._ending.wait(pause):
                said = _turn(chore, said)
            done = True
        finally:
            if not done:
                self.failed = True
                self._stop()


def _turn(chore: Chore, said: str) -> str:
    """Do a chore once; returns its complaint, which is logged when it is a new one."""
    try:
        chore()
    except ConvoyError as problem:
        if str(problem) != said:
            log.warning("%s", problem)
        return str(problem)
    return ""
