"""Scores what is waiting, at once: requests that arrive within one turn of the event loop go into one call of the model.

Nothing waits for company. While a call runs, what arrives waits and goes together into the next one. Calls that are known to
be short are made in the event loop itself, which saves two changes of thread; all others in the thread for predictions, so
that the loop goes on answering. What waits is bounded by requests and bytes, and what could not be answered within its time
is refused at once, with the seconds after which it may be worth a try (`Retry-After`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .board import Board
from .doors import Enquiry, Heard, Reply
from .errors import Overloaded, TooLate
from .estimate import Estimate
from .scorer import Scored, Scorer
from .visits import Deadline
from .worker import Worker

LIGHT_SECONDS = 0.005
"""How long a call may take, as far as is known, to be made in the event loop: so long another thread may keep the interpreter
from the loop anyhow (`sys.getswitchinterval`). In a thread of its own a shorter one costs half of all answers when many wait."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many requests and bytes of bodies may be inside at once, and how many rows go into one call."""

    requests: int = 512
    size: int = 256 << 20
    rows: int = 1024


@dataclass(slots=True)
class Entry:
    """One request on its way: heard already, or a large body that the thread reads.

    `due` is a time of the loop's clock, which goes by milliseconds and is looked at once a turn; when it `arrived`, `began` to be
    scored and `ended` are told by a finer one. `seconds` are those that it has.
    """

    enquiry: Enquiry
    heard: Heard | None
    size: int
    due: float
    seconds: float
    outcome: asyncio.Future[Reply]
    arrived: float = field(default_factory=time.perf_counter)
    timer: asyncio.TimerHandle | None = None
    batch: int = 0
    began: float = 0.0
    ended: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows it has, one where that is not known yet."""
        return 1 if self.heard is None else self.heard.asked.rows.count

    @property
    def kin(self) -> tuple[Any, ...] | None:
        """What it must have in common with others to go into one call with them; None where it goes alone."""
        if self.heard is None or self.heard.asked.params:
            return None
        return self.heard.asked.rows.shape


@dataclass(slots=True)
class Ahead:
    """How much is waiting: requests that were read and their rows, large bodies and their bytes."""

    small: int = 0
    rows: int = 0
    large: int = 0
    size: int = 0

    def add(self, entry: Entry) -> None:
        """Count one more."""
        if entry.heard is None:
            self.large += 1
            self.size += entry.size
        else:
            self.small += 1
            self.rows += entry.rows


class Batcher:
    """Answers the requests of one scorer; only the event loop calls it. `board` has the figures."""

    def __init__(self, scorer: Scorer, worker: Worker, limits: Limits, board: Board) -> None:
        self._scorer = scorer
        self._worker = worker
        self._limits = limits
        self._board = board
        self._waiting: list[Entry] = []
        self._ahead = Ahead()
        self._running: Sequence[Entry] = ()
        self._estimate, self._large = Estimate(), Estimate()
        self._began = 0.0
        self._bytes = 0
        self._called = False
        self._task: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """Requests that are waiting or being scored."""
        return len(self._waiting) + len(self._running)

    async def answer(self, enquiry: Enquiry, deadline: Deadline, alone: bool = False) -> tuple[Reply, Entry]:
        """Return the answer to a request in its time, and how it came about.

        Who is known to be alone is scored now, and not once all that arrived in this turn of the loop have been read.
        Raises what its door and the scorer raise, Overloaded where too much is waiting, TooLate when time is up.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + deadline.latest
        self._admit(enquiry.size, deadline.wanted)
        heard = enquiry.heard(self._scorer) if enquiry.size <= enquiry.door.light_bytes else None
        entry = Entry(enquiry, heard, enquiry.size, due, deadline.latest, loop.create_future())
        self._waiting.append(entry)
        self._ahead.add(entry)
        self._bytes += entry.size
        self._board.waiting(self.depth)
        if self._running:
            self._watch(entry)
        elif not self._called and alone:
            self._turn()
        elif not self._called:
            self._called = True
            loop.call_soon(self._turn)
        try:
            return await entry.outcome, entry
        finally:
            if entry.timer is not None:
                entry.timer.cancel()

    def _admit(self, size: int, seconds: float) -> None:
        """Raise Overloaded unless there is room for one more and a chance that it is answered in time."""
        depth = self.depth
        if depth == 0:
            return
        wait = self._wait()
        if depth >= self._limits.requests:
            raise Overloaded(f"{depth} requests are waiting already", wait)
        if self._bytes + size > self._limits.size:
            raise Overloaded(f"{self._bytes} bytes are waiting already", wait)
        if wait > seconds:
            raise Overloaded(f"{depth} requests are waiting, which takes {wait:.1f} s; this one has {seconds:.1f} s", wait)

    def _wait(self) -> float:
        """Return in how many seconds what is inside will probably be done."""
        left = max(0.0, self._cost(self._running) - (time.perf_counter() - self._began)) if self._running else 0.0
        ahead = self._ahead
        if ahead.large:
            left += ahead.large * self._large.seconds(ahead.size // ahead.large)
        if not ahead.small:
            return left
        if not self._scorer.predictor.together:
            return left + ahead.small * self._estimate.seconds(ahead.rows // ahead.small)
        whole, rest = divmod(ahead.rows, self._limits.rows)
        if whole:
            left += whole * self._estimate.seconds(self._limits.rows)
        return left + (self._estimate.seconds(rest) if rest else 0.0)

    def _cost(self, batch: Sequence[Entry]) -> float:
        """Return in how many seconds one call is probably done: by its rows, or by its bytes where nobody has read it yet."""
        if batch[0].heard is None:
            return self._large.seconds(batch[0].size)
        return self._estimate.seconds(sum(entry.rows for entry in batch))

    def _turn(self) -> None:
        """Begin the next call, and go on with the one after it where the call was made here."""
        self._called = False
        if self._running:
            return
        batch = self._next()
        if not batch:
            self._board.waiting(0)
            return
        loop = asyncio.get_running_loop()
        self._running, self._began = batch, time.perf_counter()
        for entry in batch:
            entry.batch, entry.began = len(batch), self._began
        if batch[0].heard is not None and self._scorer.predictor.light and self._cost(batch) <= LIGHT_SECONDS:
            self._done(batch, *self._timed(batch))
        else:
            for entry in (*batch, *self._waiting):
                self._watch(entry)
            self._task = loop.create_task(self._in_thread(batch))

    async def _in_thread(self, batch: Sequence[Entry]) -> None:
        try:
            outcomes, seconds = await self._worker.run(lambda: self._timed(batch))
        except Overloaded as problem:
            outcomes, seconds = [problem] * len(batch), self._cost(batch)
        self._done(batch, outcomes, seconds)

    def _timed(self, batch: Sequence[Entry]) -> tuple[Sequence[Reply | Exception], float]:
        began = time.perf_counter()
        try:
            outcomes = self._score(batch)
        except Exception as problem:  # noqa: BLE001  whoever waits must hear of it
            outcomes = [problem] * len(batch)
        return outcomes, time.perf_counter() - began

    def _score(self, batch: Sequence[Entry]) -> Sequence[Reply | Exception]:
        heard = [entry.enquiry.heard(self._scorer) if entry.heard is None else entry.heard for entry in batch]
        scored = self._scorer.scored([each.asked for each in heard])
        return [self._replied(entry.enquiry, each, found) for entry, each, found in zip(batch, heard, scored, strict=True)]

    def _replied(self, enquiry: Enquiry, heard: Heard, scored: Scored | Exception) -> Reply | Exception:
        if isinstance(scored, Exception):
            return scored
        try:
            return enquiry.reply(self._scorer, heard, scored)
        except Exception as problem:  # noqa: BLE001  it belongs to one request only
            return problem

    def _done(self, batch: Sequence[Entry], outcomes: Sequence[Reply | Exception], seconds: float) -> None:
        ended = time.perf_counter()
        if batch[0].heard is None:
            self._large.learn(batch[0].size, seconds)
        else:
            self._estimate.learn(sum(entry.rows for entry in batch), seconds)
        self._running = ()
        for entry, outcome in zip(batch, outcomes, strict=True):
            entry.ended = ended
            self._bytes -= entry.size
            if entry.outcome.done():
                continue
            if isinstance(outcome, Exception):
                entry.outcome.set_exception(outcome)
            else:
                entry.outcome.set_result(outcome)
        self._board.batched(len(batch))
        self._board.waiting(len(self._waiting))
        if self._waiting and not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _next(self) -> list[Entry]:
        """Take what goes into one call."""
        now = asyncio.get_running_loop().time()
        batch, self._waiting = self._parted([entry for entry in self._waiting if self._in_time(entry, now)])
        self._ahead = Ahead()
        for entry in self._waiting:
            self._ahead.add(entry)
        return batch

    def _parted(self, waiting: list[Entry]) -> tuple[list[Entry], list[Entry]]:
        """Part what is waiting into the first with whatever else has rows of its shape, and the rest."""
        if len(waiting) < 2:
            return waiting, []
        first = waiting[0]
        kin = first.kin
        if kin is None or not self._scorer.predictor.together:
            return [first], waiting[1:]
        batch, rest, rows = [first], [], first.rows
        for entry in waiting[1:]:
            more = entry.rows
            if rows + more <= self._limits.rows and entry.kin == kin:
                batch.append(entry)
                rows += more
            else:
                rest.append(entry)
        return batch, rest

    def _in_time(self, entry: Entry, now: float) -> bool:
        """Say whether somebody still waits for it; one whose time is up hears so."""
        if now >= entry.due:
            self._late(entry)
        if entry.outcome.done():
            self._bytes -= entry.size
            return False
        return True

    def _watch(self, entry: Entry) -> None:
        """Have a request that cannot be answered at once hear when its time is up."""
        if entry.timer is None and math.isfinite(entry.due):
            entry.timer = asyncio.get_running_loop().call_at(entry.due, self._late, entry)

    def _late(self, entry: Entry) -> None:
        if not entry.outcome.done():
            entry.outcome.set_exception(TooLate(f"not answered within {entry.seconds:.3f} s"))
