"""One edge's folder of logs, folded into counts per second as they are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.evidence import Attempts


class Folder:
    """Folds one edge's access.log and attempts.log; the only writer of their counts.

    `slow_ms` gives a model's latency limit, `now` Unix time in seconds, `reopen` makes Envoy open its logs anew.
    """

    def __init__(
        self, folder: Path, edge: str, slow_ms: Callable[[str], int], keep_raw: bool, now: Callable[[], float], reopen: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._edge = edge
        self._slow_ms = slow_ms
        self._keep_raw = keep_raw
        self._now = now
        self._reopen = reopen

    def turn(self) -> None:
        """Fold what was written since the last turn; call it some four times a second."""
        raise NotImplementedError

    def attempts(self, model: str, since: int, until: int) -> Attempts:
        """Return a model's counts in the seconds since <= second < until, as far as they are complete."""
        raise NotImplementedError
