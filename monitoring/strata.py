"""From counts to strata: what both revisions did in one region, at one edge, in one second.

A stratum is the smallest place where canary and stable met the same circumstances, so only within one are they
compared. Counts of different strata are never summed for that comparison: regions with different base rates and
shares would invent or hide harm (Simpson's paradox).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fleet.errors import InputError
from fleet.evidence import AttemptCount, Attempts, PairCount

Counts: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

MILLION = 1_000_000
_FIELDS = ("attempts", "bad", "bad_once", "slow", "slow_once", "scored", "score_sum", "stand_ins")
_VALUES = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True)
class CanaryEvidence:
    """What was observed since the canary began.

    `canary` and `stable` are revision digests. `attempts` may hold other revisions and shadow traffic too: of these
    only the shadow's pairs are judged. `regions` are those that the release must convince, also where nothing has
    been observed yet. `fresh_to` is the second up to which every edge has told, where edges are not equally far.
    `cuts` are the seconds from which on other weights held.
    """

    canary: str
    stable: str
    attempts: Attempts
    regions: tuple[str, ...]
    fresh_to: int | None = None
    cuts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.canary == self.stable:
            raise InputError(f"revision {self.canary}", "is canary and stable at once", "Judge two different revisions.")
        if not self.regions or len(set(self.regions)) != len(self.regions):
            raise InputError("the regions of a canary", "must be named, each once")


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """What one revision did, stratum by stratum, as equally long arrays; see AttemptCount for what each counts."""

    attempts: Counts
    bad: Counts
    bad_once: Counts
    slow: Counts
    slow_once: Counts
    scored: Counts
    score_sum: Counts
    stand_ins: Counts

    @property
    def dealt(self) -> Counts:
        """Attempts that the edge dealt out by chance: not those that stood in for another place."""
        return self.attempts - self.stand_ins

    @classmethod
    def of(cls, attempts: Counts, bad: Counts, slow: Counts | None = None) -> Self:
        """Return an arm whose callers nobody told apart and whose answers carried no score."""
        none = np.zeros_like(attempts)
        late = none if slow is None else slow
        return cls(attempts, bad, bad, late, late, none, none, none)


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """One region's strata in the order of time, at first one row per second and edge; `edge` numbers the edges."""

    second: Counts
    canary: Arm
    stable: Arm
    edge: Counts

    def share(self) -> Floats:
        """The canary's measured share of each stratum's attempts that were dealt out, in 0..1.

        Of what was dealt to the canary and answered elsewhere in the end, the second try belongs to no share.
        """
        share = self.canary.dealt / np.maximum(self.canary.dealt + self.stable.dealt, 1)
        return np.asarray(share, dtype=np.float64)

    def comparable(self) -> npt.NDArray[np.bool_]:
        """Where both revisions were tried, so that bad attempts can tell them apart."""
        return (self.canary.dealt > 0) & (self.stable.dealt > 0)


@dataclass(frozen=True, slots=True, eq=False)
class PairStrata:
    """One region's pairs of shadow and stable answers, one row per second and edge."""

    second: Counts
    pairs: Counts
    disagreed: Counts


def strata_by_region(evidence: CanaryEvidence) -> Mapping[str, Strata]:
    """Sort the evidence into each region's strata, up to the last second that every edge has completed.

    Raises InputError when counts contradict themselves or belong to a region that is not judged.
    """
    arm = {evidence.canary: 0, evidence.stable: 1}
    rows: dict[str, dict[tuple[int, str], list[list[int]]]] = {region: {} for region in evidence.regions}
    for count in evidence.attempts.counts:
        place = arm.get(count.revision)
        if place is None or count.traffic != "live" or count.second >= evidence.attempts.complete_to:
            continue
        _check(count, evidence.regions)
        row = rows[count.region].setdefault((count.second, count.edge), [[0] * len(_FIELDS), [0] * len(_FIELDS)])[place]
        for column, value in enumerate(_VALUES(count)):
            row[column] += value
    return {region: _as_strata(of_region) for region, of_region in rows.items()}


def pairs_by_region(evidence: CanaryEvidence) -> Mapping[str, PairStrata]:
    """Sort the canary's pairs into regions, up to the last second that every edge has completed."""
    rows: dict[str, dict[tuple[int, str], list[int]]] = {region: {} for region in evidence.regions}
    for count in evidence.attempts.pairs:
        if count.revision != evidence.canary or count.second >= evidence.attempts.complete_to:
            continue
        _check_pairs(count, evidence.regions)
        row = rows[count.region].setdefault((count.second, count.edge), [0, 0])
        row[0] += count.pairs
        row[1] += count.disagreed
    return {region: _as_pairs(of_region) for region, of_region in rows.items()}


def _check(count: AttemptCount, regions: tuple[str, ...]) -> None:
    """Refuse a count that no honest log can hold."""
    _check_region(count.region, regions)
    where = f"counts of {count.region} in second {count.second}"
    remedy = "Look at how they were folded."
    if not 0 <= count.bad <= count.attempts:
        raise InputError(where, f"say {count.bad} bad of {count.attempts} attempts", remedy)
    if not 0 <= count.slow <= count.attempts:
        raise InputError(where, f"say {count.slow} slow of {count.attempts} attempts", remedy)
    if not (0 <= count.bad_once <= count.bad and 0 <= count.slow_once <= count.slow):
        raise InputError(where, f"say {count.bad_once} bursts of {count.bad} bad, {count.slow_once} of {count.slow} slow", remedy)
    if not 0 <= count.stand_ins <= count.attempts:
        raise InputError(where, f"say {count.stand_ins} of {count.attempts} attempts stood in for others", remedy)
    if not 0 <= count.score_sum <= count.scored * MILLION:
        raise InputError(where, f"say a sum of scores of {count.score_sum} millionths over {count.scored} answers", remedy)


def _check_pairs(count: PairCount, regions: tuple[str, ...]) -> None:
    _check_region(count.region, regions)
    if not 0 <= count.disagreed <= count.pairs:
        where = f"pairs of {count.region} in second {count.second}"
        raise InputError(where, f"say {count.disagreed} disagreed of {count.pairs}", "Look at how they were folded.")


def _check_region(region: str, regions: tuple[str, ...]) -> None:
    if region not in regions:
        raise InputError(f"counts of region {region}", f"are not part of this canary (known: {', '.join(regions)})")


def _as_strata(rows: Mapping[tuple[int, str], list[list[int]]]) -> Strata:
    """Turn rows by (second, edge) into columns sorted by them."""
    keys = sorted(rows)
    table = np.array([rows[key] for key in keys], dtype=np.int64).reshape(len(keys), 2, len(_FIELDS))
    canary, stable = (Arm(*(table[:, place, column] for column in range(len(_FIELDS)))) for place in (0, 1))
    numbers = {edge: number for number, edge in enumerate(sorted({edge for _, edge in keys}))}
    return Strata(_seconds(keys), canary, stable, np.array([numbers[edge] for _, edge in keys], dtype=np.int64))


def _as_pairs(rows: Mapping[tuple[int, str], list[int]]) -> PairStrata:
    keys = sorted(rows)
    table = np.array([rows[key] for key in keys], dtype=np.int64).reshape(len(keys), 2)
    return PairStrata(_seconds(keys), table[:, 0], table[:, 1])


def _seconds(keys: list[tuple[int, str]]) -> Counts:
    return np.array([second for second, _ in keys], dtype=np.int64)
