"""Counts per second as the shipped fold makes them, by whole columns: what makes thousands of releases affordable.

That they are the same counts is not believed but checked, on log lines (see `chain`).
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from benchmarks.judging.scenarios import LIMIT_MS
from benchmarks.judging.simulator import CALLERS, SECONDS, Flags, Floats, Ints, Traffic
from monitoring.strata import Arm, PairStrata, Strata

FIELDS = ("attempts", "bad", "bad_once", "slow", "slow_once", "scored", "score_sum")
_ATTEMPTS = FIELDS.index("attempts")


def count(traffic: Traffic) -> Ints:
    """Return the counts of one edge: by second, by revision (stable, canary), by field."""
    inside = traffic.end_ms < SECONDS * 1000
    second = (traffic.end_ms // 1000)[inside]
    place = second * 2 + traffic.canary[inside]
    slow = (traffic.took_ms > LIMIT_MS) & ~traffic.broken
    bad, late, score = traffic.bad[inside], slow[inside], traffic.score[inside]
    draw = _Draw(second, traffic.caller[inside], np.flatnonzero(inside))
    columns = (
        np.ones(len(place)),
        bad,
        draw.once(bad),
        late,
        draw.once(late),
        score >= 0,
        np.maximum(score, 0),
    )
    table = np.stack([np.bincount(place, weights=column, minlength=SECONDS * 2) for column in columns], axis=1)
    return np.rint(table).astype(np.int64).reshape(SECONDS, 2, len(FIELDS))


def as_strata(table: Ints, begin: int) -> Strata:
    """Return the strata of one edge, from the second `begin` (Unix time) on."""
    seen = np.flatnonzero(table[:, :, _ATTEMPTS].any(axis=1))
    stable, canary = (Arm(*(table[seen, arm, field] for field in range(len(FIELDS))), np.zeros_like(seen)) for arm in (0, 1))
    return Strata(begin + seen, canary, stable, np.zeros_like(seen))


def count_pairs(traffic: Traffic) -> Ints:
    """Return by second how many requests a shadow answered too, and how many of these otherwise."""
    # A pair counts when the later of the two has ended
    end = traffic.start_ms + np.maximum(traffic.took_ms, traffic.shadow_ms)
    asked = (traffic.shadow_ms >= 0) & (end < SECONDS * 1000)
    second = end[asked] // 1000
    both = (np.bincount(second, minlength=SECONDS), np.bincount(second[traffic.disagreed[asked]], minlength=SECONDS))
    return np.stack(both, axis=1).astype(np.int64)


def as_pairs(table: Ints, begin: int) -> PairStrata:
    """Return the pairs of one edge, from the second `begin` (Unix time) on."""
    seen = np.flatnonzero(table[:, 0])
    return PairStrata(begin + seen, table[seen, 0], table[seen, 1])


def canary_exposure(tables: list[Ints]) -> Floats:
    """Return how many attempts the canary had served up to the end of each second, over all edges."""
    return np.cumsum(np.sum([table[:, 1, _ATTEMPTS] for table in tables], axis=0)).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Draw:
    """What draws one attempt of each caller's burst: its second, its caller, and its number among all of the edge."""

    second: Ints
    caller: Ints
    number: Ints

    def once(self, happened: Flags) -> Flags:
        """Mark one such attempt of each caller and second, whichever revision it met: that of the lowest checksum."""
        places = np.flatnonzero(happened)
        callers, numbers = self.caller[places], self.number[places]
        sums = [crc32(key_of(caller, number).encode()) for caller, number in zip(callers.tolist(), numbers.tolist(), strict=True)]
        burst = self.second[places] * CALLERS + callers
        order = np.lexsort((np.array(sums, dtype=np.int64), burst))
        _, drawn = np.unique(burst[order], return_index=True)
        marked = np.zeros(len(happened), dtype=np.bool_)
        marked[places[order[drawn]]] = True
        return marked


def id_of(number: int) -> str:
    """Return the request id of an edge's attempt."""
    return f"r{number:08d}"


def key_of(caller: int, number: int) -> str:
    """Return what the fold knows a request by: its connection, which is its caller's own, and its id."""
    return f"{caller}/{id_of(number)}"
