"""What several gates need is found out once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Any, TypeVar

Found = TypeVar("Found")


class Once:
    """Keeps what was found out, by a key that names all it depends on; who asks meanwhile waits for the one who looks."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: dict[Hashable, Future[Any]] = {}

    def get(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """Return what is known under a key, found out now by the first who asks; what that raises, everybody gets."""
        with self._lock:
            known = self._found.get(key)
            mine: Future[Any] = Future() if known is None else known
            self._found[key] = mine
        if known is None:
            try:
                mine.set_result(find())
            except BaseException as problem:  # noqa: BLE001 - it is raised again below, here and wherever somebody waits
                mine.set_exception(problem)
        found: Found = mine.result()
        return found
