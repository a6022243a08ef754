"""How far the copies of a release are: in the Prefect UI, and beside the release for whoever waits in a terminal."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from fleet.versions import Revision
from flows.copying_told import in_words, progress_file, write_progress
from flows.showing import key, table, title
from flows.work import Work
from registry.replicate import Progress

SECONDS = 1.0


class Board:
    """The last word on each region's copy; told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, Progress] = {}

    def tell(self, region: str, progress: Progress) -> None:
        """Take note of how far a region's copy is."""
        with self._lock:
            self._last[region] = progress

    def rows(self) -> dict[str, Progress]:
        """Return how far each region's copy is that has begun."""
        with self._lock:
            return dict(self._last)


@contextmanager
def watched(work: Work, revision: Revision) -> Iterator[Board]:
    """Give a board that is shown every second while the block runs, from the first second on: most copies end before."""
    board, ended = Board(), threading.Event()
    showing = threading.Thread(
        target=contextvars.copy_context().run, args=(_show_until, work, revision, board, ended), name="copying-shown", daemon=True
    )
    showing.start()
    try:
        yield board
    finally:
        ended.set()
        showing.join()
        progress_file(work.house.home, work.desire.release).unlink(missing_ok=True)


def _show_until(work: Work, revision: Revision, board: Board, ended: threading.Event) -> None:
    shown = False
    try:
        while not ended.wait(SECONDS):
            _show(work, revision, board)
            shown = True
        if shown:
            _show(work, revision, board)
    except OSError as problem:
        # What people see must not decide what becomes of a release
        get_run_logger().warning("%s: its progress cannot be shown: %s", work.desire.release, problem)


def _show(work: Work, revision: Revision, board: Board) -> None:
    rows = board.rows()
    write_progress(work.house.home, work.desire.release, rows)
    told = [{"region": region, "read back": in_words(found)} for region, found in rows.items()]
    table(told, key=key(work, "copies"), description=f"Copies of {title(work)}, {revision.digest}")
