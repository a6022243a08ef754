"""One edge's folder of logs, folded into counts per second as they are written.

Beside Envoy's two logs the folder holds attempts.sqlite (counts, and how far the logs were read), callers.key and
attempts.lock. Raw lines stay only until they are counted: a file is closed when it is large or old, and then deleted.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import Busy, UnknownName, Unreachable
from fleet.evidence import AttemptCount, Attempts, PairCount
from traffic.attempts.callers import mask_with
from traffic.attempts.fold import Fold
from traffic.attempts.formats import ACCESS_LOG, ATTEMPTS_LOG
from traffic.attempts.pairs import Pairs
from traffic.attempts.pending import Pending
from traffic.attempts.store import Counted, CountStore, Saved, SecondCount
from traffic.attempts.tail import Piece, Tail
from traffic.attempts.tallies import Troubles
from traffic.attempts.terms import NO_TERMS, Terms
from traffic.attempts.timings import Timings


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long; all times in seconds, all sizes in bytes.

    A second is complete once the clock is `delay` past its end. A raw file is closed at `segment_size` or
    `segment_age`. Counts are kept for `keep`. At most `piece` is read of each log in one turn.
    """

    delay: float = 1.0
    segment_size: int = 64 * 1024 * 1024
    segment_age: float = 300.0
    keep: int = 7 * 24 * 3600
    piece: int = 4 * 1024 * 1024


DEFAULT_LIMITS: Final = Limits()
REOPEN_AGAIN: Final = 2.0
PRUNE_EVERY: Final = 3600.0


class Folder:
    """Folds one edge's access.log and attempts.log; the only writer of their counts.

    `terms` says by what a model is counted (UnknownName or a LookupError: `NO_TERMS`), `now` is Unix time in seconds,
    `reopen` makes Envoy open its logs anew (Unreachable: tried again later).
    Raises Busy when another Folder, of whatever process, has this folder.
    """

    def __init__(
        self,
        folder: Path,
        edge: str,
        terms: Callable[[str], Terms],
        keep_raw: bool,
        now: Callable[[], float],
        reopen: Callable[[], None],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._folder, self._edge, self._terms, self._keep_raw = folder, edge, terms, keep_raw
        self._now, self._reopen, self._limits = now, reopen, limits
        self._lock_file = (folder / "attempts.lock").open("a")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            self._lock_file.close()
            raise Busy(str(folder), "its logs are already being counted", "One agent per edge: stop the other one.") from taken
        self._turning = threading.Lock()
        self._mask = mask_with(folder / "callers.key")
        self._store = CountStore(folder / "attempts.sqlite")
        self._troubles = self._store.load().troubles
        self._work: _Work | None = None
        self.timings = Timings()
        self._segment_since = self._reopened = now()
        self._pruned = 0.0

    def turn(self) -> None:
        """Fold what was written since the last turn; call it some four times a second.

        What one turn counts is committed whole or not at all: after any error the next turn begins from the last commit.
        """
        with self._turning:
            work, self._work = self._work or self._resume(), None
            now = self._now()
            self._fold_piece(work, now)
            self._tidy(work, now)
            self._work = work

    def attempts(self, model: str, since: int, until: int) -> Attempts:
        """Return a model's counts in the seconds since <= second < until, as far as they are complete."""
        rows, complete_to = self._store.counts(model, since, until)
        end = min(until, complete_to)
        counts = tuple(self._count(model, row) for row in rows if row.attempts or row.bad)
        pairs = tuple(
            PairCount(row.second, self._edge, model, row.revision, row.region, row.pairs, row.disagreed, row.distance_sum)
            for row in self._store.pairs(model, since, end)
        )
        return Attempts(counts, end, pairs)

    def _count(self, model: str, row: SecondCount) -> AttemptCount:
        return AttemptCount(
            second=row.second,
            edge=self._edge,
            model=model,
            revision=row.revision,
            region=row.region,
            # An answer cut off within a millisecond of a second's end may turn bad in the second after it
            attempts=max(row.attempts, row.bad),
            bad=row.bad,
            slow=row.slow,
            traffic=row.traffic,
            bad_bursts=row.bad_bursts,
            slow_bursts=row.slow_bursts,
            scored=row.scored,
            score_sum=row.score_sum,
            stand_ins=row.stand_ins,
            last_ms=row.last_ms,
        )

    def seconds(self, model: str, since: int, until: int) -> tuple[SecondCount, ...]:
        """Return the same seconds as stored, with who left."""
        return self._store.counts(model, since, until)[0]

    @property
    def troubles(self) -> Troubles:
        """What did not go as it should, since the counts began."""
        return self._troubles

    @property
    def malformed(self) -> int:
        """Lines that could not be read, since the counts began."""
        return self._troubles.malformed

    def close(self) -> None:
        """Let go of the folder; what was committed stays."""
        with self._turning:
            self._store.close()
            self._lock_file.close()

    def _resume(self) -> _Work:
        saved, marks = self._store.load(), self._store.marks()
        pending = Pending.from_json(saved.pending) if saved.pending else Pending()
        pairs = Pairs.from_chunks(self._store.waiting())
        fold = Fold(self._terms_of, self._mask, saved.complete_to, saved.troubles, pending, pairs, timings=self.timings)
        return _Work(fold, Tail(self._folder, ACCESS_LOG, marks), Tail(self._folder, ATTEMPTS_LOG, marks))

    def _fold_piece(self, work: _Work, now: float) -> None:
        fold, now_ms = work.fold, int(now * 1000)
        requests, attempts = work.requests.read(self._limits.piece), work.attempts.read(self._limits.piece)
        for piece in (requests, attempts):
            fold.trouble(malformed=piece.torn, truncated=piece.truncated)
        # While catching up, time stands where the logs have been read to
        until_ms = min(
            _read_to(requests, fold.read_requests(requests.lines, now_ms), now_ms),
            _read_to(attempts, fold.read_attempts(attempts.lines, now_ms), now_ms),
        )
        counts = fold.close(until_ms - int(self._limits.delay * 1000), now_ms)
        pairs, waiting = fold.take_pairs(now_ms)
        counted = Counted(counts, pairs, waiting, fold.pairs.oldest)
        saved = Saved(fold.complete_to, fold.troubles, fold.pending.to_json())
        self._store.commit(counted, saved, (*work.requests.marks(), *work.attempts.marks()))
        self._troubles = fold.troubles

    def _tidy(self, work: _Work, now: float) -> None:
        tails = (work.requests, work.attempts)
        counted = [] if self._keep_raw else [(tail, path) for tail in tails for path in tail.done()]
        if counted:
            self._store.flush()
        for tail, path in counted:
            tail.delete(path)
        if now - self._pruned >= PRUNE_EVERY:
            self._store.prune(int(now) - self._limits.keep)
            self._pruned = now
        self._rotate(tails, now)

    def _rotate(self, tails: tuple[Tail, Tail], now: float) -> None:
        old = not self._keep_raw and now - self._segment_since >= self._limits.segment_age
        awaited = any(tail.awaits_reopening() for tail in tails)
        if awaited and now - self._reopened < REOPEN_AGAIN:
            return
        if not awaited:
            large = [
                tail for tail in tails if tail.current.exists() and tail.current.stat().st_size >= (1 if old else self._limits.segment_size)
            ]
            if not large:
                return
            for tail in large:
                tail.rotate()
            self._segment_since = now
        self._reopened = now
        try:
            self._reopen()
        except Unreachable:
            # An Envoy that is down opens its logs anew when it starts; until then this is tried again
            return

    def _terms_of(self, model: str) -> Terms:
        try:
            return self._terms(model)
        except (UnknownName, LookupError):
            return NO_TERMS


@dataclass(frozen=True, slots=True)
class _Work:
    fold: Fold
    requests: Tail
    attempts: Tail


def _read_to(piece: Piece, latest_ms: int, now_ms: int) -> int:
    return now_ms if piece.caught_up else min(latest_ms, now_ms)
