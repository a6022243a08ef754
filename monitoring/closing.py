"""When a stratum is closed: seconds are joined until both revisions were tried often enough to be compared.

A second in which one revision had no attempt says nothing, and where requests are few that is most seconds. So at each edge
seconds are joined until each revision has had a few attempts, or a minute is over, or the weights have changed. Only closed
strata are bet on: one that is open would be bet on twice.

That gives no chance to anybody: when a stratum closes depends on how many attempts each revision had and on the clock, not
on which of them were bad, and those were dealt out by chance. Harm is seen at most a few of the canary's requests later than
second by second, and in far fewer requests where they are rare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np

from monitoring.strata import Arm, Counts, Strata

ATTEMPTS = 5
"""A stratum closes once each revision has had so many attempts."""
SECONDS = 60
"""A stratum closes after so many seconds at the latest."""


def closed(strata: Strata, cuts: Sequence[int] = (), until: int | None = None) -> Strata:
    """Join one region's seconds into closed strata, edge by edge, in the order in which they closed.

    No stratum holds seconds on both sides of a cut (a second from which on other weights held). `until` is the second up to
    which everything is known, by default the one after the last; what is not closed by then is left out.
    """
    if not len(strata.second):
        return strata
    end = int(strata.second.max()) + 1 if until is None else until
    joined = [_join(strata, rows, (sorted(cuts), end)) for rows in _edges(strata)]
    second, canary, stable, edge = (np.concatenate(parts) for parts in zip(*joined, strict=True))
    order = np.argsort(second, kind="stable")
    return Strata(second[order], _arm(canary[order]), _arm(stable[order]), edge[order])


def _edges(strata: Strata) -> Iterator[Counts]:
    """Give the rows of each edge, in the order of time."""
    for edge in np.unique(strata.edge):
        rows = np.flatnonzero(strata.edge == edge)
        yield rows[np.argsort(strata.second[rows], kind="stable")]


def _join(strata: Strata, rows: Counts, known: tuple[list[int], int]) -> tuple[Counts, Counts, Counts, Counts]:
    """Return the closed strata of one edge: when each closed, what each revision did in it, and the edge."""
    second = strata.second[rows]
    bounds = list(_bounds(second, strata.canary.dealt[rows], strata.stable.dealt[rows], known))
    firsts, ends, closes = (np.array([bound[part] for bound in bounds], dtype=np.int64) for part in range(3))
    canary, stable = (_sums(_columns(arm)[rows], firsts, ends) for arm in (strata.canary, strata.stable))
    return closes, canary, stable, np.full(len(bounds), strata.edge[rows[0]], dtype=np.int64)


def _bounds(second: Counts, canary: Counts, stable: Counts, known: tuple[list[int], int]) -> Iterator[tuple[int, int, int]]:
    """Give first row, end row and closing second of each closed stratum."""
    cuts, until = known
    tried_canary, tried_stable = (np.concatenate([[0], np.cumsum(attempts)]) for attempts in (canary, stable))
    first = 0
    while first < len(second):
        begin = int(second[first])
        over = min([begin + SECONDS, *(cut for cut in cuts if cut > begin)])
        enough = max(int(np.searchsorted(tried, tried[first] + ATTEMPTS)) for tried in (tried_canary, tried_stable))
        in_time = int(np.searchsorted(second, over))
        if enough <= in_time:
            yield first, enough, int(second[enough - 1])
            first = enough
            continue
        if over <= until:
            yield first, in_time, over - 1
        first = in_time


def _sums(columns: Counts, firsts: Counts, ends: Counts) -> Counts:
    running = np.concatenate([np.zeros((1, columns.shape[1]), dtype=np.int64), np.cumsum(columns, axis=0)])
    return np.asarray(running[ends] - running[firsts], dtype=np.int64)


def _columns(arm: Arm) -> Counts:
    return np.stack([getattr(arm, field.name) for field in fields(arm)], axis=1)


def _arm(columns: Counts) -> Arm:
    return Arm(*(columns[:, place] for place in range(columns.shape[1])))
