"""Keeps the rows that this process answered, for whoever compares them with the rows that the model learned from.

    <folder>/<first 12 hex digits of the revision>/<Unix milliseconds>-<pid>-<number>.parquet

The folder belongs to one model in one region, and every process there writes into it. Answers come first: a request only
leaves its two bodies in a queue that is bounded, what does not fit is dropped and counted, and a thread turns them into
columns and files at its leisure. Files appear whole (written aside, then renamed) and the oldest go when there are too
many. Where the disk refuses, capturing pauses with one line in the log and is tried again every RETRY_SECONDS, without
another line until it works; rows that cannot be told as columns cost their own file only. Answers go on in any case. How
much was captured and dropped stands in each file's Parquet metadata.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .batch import Answered, Batch, flat_fields
from .errors import told
from .flavors import kept_out
from .log import say
from .scorer import Scorer

LOOK_SECONDS = 0.5
FILE_SECONDS = 5.0
FILE_ROWS = 20_000
CLOSE_SECONDS = 3.0
RETRY_SECONDS = 300.0
TOLD_SECONDS = 60.0
"""At most one line in so long tells of rows that could not be told as columns."""
SUFFIX, UNFINISHED = ".parquet", ".unfinished"
ABANDONED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What capturing may take: answers and bytes that wait in memory, files and bytes that lie in the folder."""

    waiting_answers: int = 4096
    waiting_bytes: int = 16 << 20
    files: int = 2048
    file_bytes: int = 256 << 20


@dataclass(slots=True)
class Tally:
    """What became of this process's answers: rows in files, answers that are in none, those of them that a file has told.

    `refused` is counted by whom answers are offered to, `lost` by the thread that writes, so neither needs a lock.
    """

    captured: int = 0
    refused: int = 0
    lost: int = 0
    dropped_before: int = 0

    @property
    def dropped(self) -> int:
        """Answers that are in no file, whatever kept them out."""
        return self.refused + self.lost


class Capture:
    """Captures one process's answers from one thread; `offer` never waits and never raises."""

    def __init__(self, folder: Path, scorer: Scorer, origin: tuple[str, str], bounds: Bounds = Bounds()) -> None:
        """Start capturing into a model's folder; `origin` is revision and region."""
        # imported here, while nobody waits for an answer yet
        import pyarrow.parquet

        with kept_out():
            # Arrow looks for pandas once, at the first array, and would import it
            pyarrow.array([0])

        revision, region = origin
        self._folder = folder
        self._own = folder / revision.removeprefix("sha256:")[:12]
        self._bounds = bounds
        self._fields = flat_fields(scorer.signature)
        left_out = [field.name for field in scorer.signature.inputs if field not in self._fields]
        self._revision = revision
        self._metadata = {"model": scorer.name, "version": scorer.version, "region": region, "left_out": json.dumps(left_out)}
        self._tally = Tally()
        self._written = 0
        self._waiting: deque[Answered] = deque()
        # each is written by one thread only, so neither needs a lock
        self._bytes_in, self._bytes_out = 0, 0
        self._closing = threading.Event()
        self._paused = False
        self._again = 0.0
        self._refusing = False
        self._told_at = -math.inf
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        if left_out:
            say(f"not captured, since no flat columns: {', '.join(left_out)}")
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Answers that were not captured: they came too fast, the disk refused, or they could not be told as columns."""
        return self._tally.dropped

    def offer(self, request_id: bytes, body: bytes, answer: bytes) -> None:
        """Leave an answered request to be captured, or count it as dropped."""
        full = self._paused or len(self._waiting) >= self._bounds.waiting_answers
        size = len(body) + len(answer)
        if full or self._bytes_in - self._bytes_out + size > self._bounds.waiting_bytes:
            self._tally.refused += 1
            return
        self._bytes_in += size
        self._waiting.append(Answered(time.time_ns(), request_id, body, answer))

    def close(self) -> None:
        """Write what waits, for three seconds at most."""
        self._closing.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            self._capture()
        except Exception as problem:  # noqa: BLE001  whatever it is, answers matter more
            self._paused = True
            self._waiting.clear()
            say(f"capturing is given up, answers go on: {told(problem)}")

    def _capture(self) -> None:
        batch, since = self._batch(), time.monotonic()
        last = False
        while not last:
            last = self._closing.wait(LOOK_SECONDS)
            if self._paused and time.monotonic() >= self._again:
                self._forget()
                self._paused = False
            while self._waiting and not self._paused:
                if not batch.rows:
                    since = time.monotonic()
                self._take(batch)
                if batch.rows >= FILE_ROWS:
                    batch = self._write(batch)
            if batch.rows and (last or time.monotonic() - since >= FILE_SECONDS):
                batch = self._write(batch)

    def _batch(self) -> Batch:
        return Batch(self._fields, self._revision)

    def _take(self, batch: Batch) -> None:
        """Turn one request into rows, then leave the interpreter to the others for as long as that took."""
        begun = time.perf_counter()
        answered = self._waiting.popleft()
        self._bytes_out += answered.size
        try:
            batch.add(answered)
        except Exception as problem:  # noqa: BLE001  one answer is as little worth as its file
            self._lose(1, problem)
        if not self._closing.is_set():
            time.sleep(time.perf_counter() - begun)

    def _write(self, batch: Batch) -> Batch:
        """Write the rows as one file and return an empty batch; what fails is lost and counted."""
        try:
            self._write_file(batch)
        except OSError as problem:
            self._tally.lost += batch.answers
            self._pause(problem)
        except Exception as problem:  # noqa: BLE001  other rows may well be fit for a file
            self._lose(batch.answers, problem)
        else:
            self._tidy()
        return self._batch()

    def _tidy(self) -> None:
        """Keep the folder within its bounds; where nothing can be deleted, nothing more is written for a while."""
        try:
            prune(self._folder, self._bounds)
        except OSError as problem:
            self._pause(problem)
            return
        if self._refusing:
            self._refusing = False
            say("capturing goes on")

    def _write_file(self, batch: Batch) -> None:
        import pyarrow.parquet as pq

        dropped = self._tally.dropped
        table = batch.table(self._told(batch.rows, dropped))
        self._own.mkdir(parents=True, exist_ok=True)
        self._written += 1
        name = f"{time.time_ns() // 1_000_000:013d}-{os.getpid()}-{self._written:06d}{SUFFIX}"
        aside = self._own / f"{name}{UNFINISHED}"
        try:
            pq.write_table(table, aside, compression="zstd")
            on_disk(aside)
            aside.rename(self._own / name)
        finally:
            aside.unlink(missing_ok=True)
        self._tally.captured += batch.rows
        self._tally.dropped_before = dropped

    def _lose(self, answers: int, problem: Exception) -> None:
        self._tally.lost += answers
        if time.monotonic() - self._told_at >= TOLD_SECONDS:
            self._told_at = time.monotonic()
            # not its text, which may quote what a caller sent
            say(f"{answers} answers could not be captured, others are: {type(problem).__name__}")

    def _pause(self, problem: OSError) -> None:
        """Take no more for a while, and say so the first time."""
        self._paused, self._again = True, time.monotonic() + RETRY_SECONDS
        self._forget()
        if not self._refusing:
            self._refusing = True
            say(f"capturing is given up, answers go on: {told(problem)}; tried again every {RETRY_SECONDS:.0f} s")

    def _forget(self) -> None:
        """Let go of what waits, counted as lost."""
        while self._waiting:
            self._bytes_out += self._waiting.popleft().size
            self._tally.lost += 1

    def _told(self, rows: int, dropped: int) -> dict[str, str]:
        """Return a file's metadata; `captured` and `dropped` count since the process began, the file's own rows included."""
        tally = self._tally
        counts = {"captured": tally.captured + rows, "dropped": dropped, "dropped_since_last_file": dropped - tally.dropped_before}
        return {f"convoy.{key}": str(value) for key, value in (*self._metadata.items(), *counts.items())}


def on_disk(file: Path) -> None:
    """Return once a file's bytes are on the disk: one renamed before may be empty after a power cut."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def prune(folder: Path, bounds: Bounds) -> None:
    """Delete the oldest files of a model's folder beyond its bounds, and what killed processes left unfinished."""
    found: list[tuple[str, int, Path]] = []
    for own in (path for path in folder.iterdir() if path.is_dir()):
        for path in own.iterdir():
            # another process of the same model may have been quicker
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.name.endswith(SUFFIX):
                    found.append((path.name, status.st_size, path))
                elif path.name.endswith(UNFINISHED) and time.time() - status.st_mtime > ABANDONED_SECONDS:
                    path.unlink()
    total = 0
    for number, (_, size, path) in enumerate(sorted(found, reverse=True), 1):
        total += size
        if number > bounds.files or total > bounds.file_bytes:
            path.unlink(missing_ok=True)


def capturing(folder: Path | None, scorer: Scorer, origin: tuple[str, str]) -> Capture | None:
    """Return what captures into a folder, None where there is none or capturing cannot even begin."""
    if folder is None:
        return None
    try:
        return Capture(folder, scorer, origin)
    except Exception as problem:  # noqa: BLE001  a model that answers is worth more than its captured rows
        say(f"capturing is given up, answers go on: {told(problem)}")
        return None
