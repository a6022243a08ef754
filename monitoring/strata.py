"""From counts to strata: what both revisions did in one region, at one edge, in one second.

A stratum is the smallest place where canary and stable met the same circumstances, so only within one are they
compared. Counts of different strata are never summed for that comparison: regions with different base rates and
shares would invent or hide harm (Simpson's paradox).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fleet.errors import InputError
from fleet.evidence import AttemptCount, Attempts

Counts: TypeAlias = npt.NDArray[np.int64]

_CANARY_ATTEMPTS, _CANARY_BAD, _STABLE_ATTEMPTS, _STABLE_BAD = range(4)


@dataclass(frozen=True, slots=True)
class CanaryEvidence:
    """What was observed since the canary began.

    `canary` and `stable` are revision digests. `attempts` may hold other revisions and shadow traffic too: neither
    is judged. `regions` are those that the release must convince, also where nothing has been observed yet.
    """

    canary: str
    stable: str
    attempts: Attempts
    regions: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.canary == self.stable:
            raise InputError(f"revision {self.canary}", "is canary and stable at once", "Judge two different revisions.")
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise InputError("the regions of a canary", "must be named, each once")


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """One region's strata in the order of time, one row per second and edge, as equally long arrays."""

    second: Counts
    canary_attempts: Counts
    canary_bad: Counts
    stable_attempts: Counts
    stable_bad: Counts

    def share(self) -> npt.NDArray[np.float64]:
        """The canary's measured share of each stratum's attempts, in 0..1."""
        share = self.canary_attempts / np.maximum(self.canary_attempts + self.stable_attempts, 1)
        return np.asarray(share, dtype=np.float64)

    def comparable(self) -> npt.NDArray[np.bool_]:
        """Where both revisions were tried, so that bad attempts can tell them apart."""
        return (self.canary_attempts > 0) & (self.stable_attempts > 0)


def strata_by_region(evidence: CanaryEvidence) -> Mapping[str, Strata]:
    """Sort the evidence into each region's strata, up to the last second that every edge has completed.

    Raises InputError when counts contradict themselves or belong to a region that is not judged.
    """
    column = {evidence.canary: _CANARY_ATTEMPTS, evidence.stable: _STABLE_ATTEMPTS}
    rows: dict[str, dict[tuple[int, str], list[int]]] = {region: {} for region in evidence.regions}
    for count in evidence.attempts.counts:
        place = column.get(count.revision)
        if place is None or count.traffic != "live" or count.second >= evidence.attempts.complete_to:
            continue
        _check(count, evidence)
        row = rows[count.region].setdefault((count.second, count.edge), [0, 0, 0, 0])
        row[place] += count.attempts
        row[place + 1] += count.bad
    return {region: _as_strata(of_region) for region, of_region in rows.items()}


def _check(count: AttemptCount, evidence: CanaryEvidence) -> None:
    """Refuse a count that no honest log can hold."""
    if count.region not in evidence.regions:
        known = ", ".join(evidence.regions)
        raise InputError(f"counts of region {count.region}", f"are not part of this canary (known: {known})")
    if not 0 <= count.bad <= count.attempts:
        reason = f"say {count.bad} bad of {count.attempts} attempts"
        raise InputError(f"counts of {count.region} in second {count.second}", reason, "Look at how they were folded.")


def _as_strata(rows: Mapping[tuple[int, str], list[int]]) -> Strata:
    """Turn rows by (second, edge) into columns sorted by them."""
    keys = sorted(rows)
    table = np.array([rows[key] for key in keys], dtype=np.int64).reshape(len(keys), 4)
    seconds = np.array([second for second, _ in keys], dtype=np.int64)
    columns = (table[:, place] for place in (_CANARY_ATTEMPTS, _CANARY_BAD, _STABLE_ATTEMPTS, _STABLE_BAD))
    return Strata(seconds, *columns)
