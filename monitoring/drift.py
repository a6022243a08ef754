"""Have the rows that a model answers moved away from the rows it learned from? Measured column by column, judged in words.

An index above the declared limit is a shift only if chance does not explain it: with few rows and many bins it reaches a
limit by itself. CHANCE bounds how often one window of unmoved rows has any column beyond that (Bonferroni over the
columns). Regions are told apart in the reasons; the verdict is on all rows, since a region differs from the others by nature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fleet.declared import Drift
from monitoring.stability import OTHER, Bins, alike, bins_of, by_chance, contributions, shares, stability_index

if TYPE_CHECKING:
    import pandas as pd

CHANCE = 0.001
PLACES = Decimal("0.0001")
NAMED = 10
TOO_RARE = "most of its values in the reference are too rare to be counted apart"
MOST_OTHER = 0.5
"""A column of whose reference more is in the bin of all rarer values (ids, free text) says nothing by its shares."""


class DriftOutcome(StrEnum):
    """What a window of answered rows says."""

    STABLE = "stable"
    """No column is beyond its limit."""
    DRIFTED = "drifted"
    """Enough columns are beyond the limit, and chance does not explain it."""
    NOT_ENOUGH_DATA = "not enough data"
    """Too few rows, or nothing to compare: never a pass."""


class Lack(StrEnum):
    """What there was not enough of."""

    ROWS = "rows"
    COLUMNS = "columns"
    CERTAINTY = "certainty"
    """The index is beyond the limit, and chance may explain it."""


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column: its index over all rows and in each region, and the bin that adds most to it.

    `by_chance` is what unmoved rows would exceed too seldom to count on; `share` and `reference_share` lie in 0..1.
    """

    column: str
    psi: Decimal
    by_chance: Decimal
    regions: tuple[tuple[str, Decimal], ...]
    where: str
    share: Decimal
    reference_share: Decimal

    def drifted(self, limit: Decimal) -> bool:
        """Whether the column moved, and not by chance."""
        return self.psi > max(limit, self.by_chance)

    def undecided(self, limit: Decimal) -> bool:
        """Whether the index is beyond the limit and may be so by chance."""
        return limit < self.psi <= self.by_chance


@dataclass(frozen=True, slots=True)
class Measured:
    """A window against its reference: rows per region, the columns with the greatest index first, and what was left out, and why."""

    rows: tuple[tuple[str, int], ...]
    columns: tuple[ColumnDrift, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def total(self) -> int:
        """Rows in all regions."""
        return sum(count for _, count in self.rows)


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """An outcome with its reasons in plain words; `drifted` names the columns, the greatest index first.

    `lack` is set exactly where there was not enough data.
    """

    outcome: DriftOutcome
    reasons: tuple[str, ...]
    drifted: tuple[str, ...] = ()
    lack: Lack | None = None


def measure(reference: pd.DataFrame, windows: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> Measured:
    """Return how far the rows of each region's window, and all of them together, are from the reference.

    `columns` are those that were captured. A column that only one side has is left out with the reason, and so is one
    whose values in the reference are mostly too rare to be counted apart.
    """
    rows = tuple((region, len(window)) for region, window in windows.items())
    compared, skipped = _comparable(reference, columns)
    if not sum(count for _, count in rows):
        return Measured(rows, (), tuple(skipped))
    sides = [_sides(name, reference[name], windows) for name in compared]
    counted = [side for side in sides if shares(side.before)[side.bins.labels.index(OTHER)] <= MOST_OTHER]
    skipped += [
        (side.column, "most of its values in the reference are too rare to be counted apart") for side in sides if side not in counted
    ]
    found = [_column(side, CHANCE / len(counted)) for side in counted]
    return Measured(rows, tuple(sorted(found, key=lambda one: (-one.psi, one.column))), tuple(skipped))


def judge_drift(policy: Drift, measured: Measured) -> DriftVerdict:
    """Return the verdict on a window: drifted, stable, or not enough data, with reasons that name columns and figures."""
    if measured.total < policy.minimum_rows:
        why = f"{measured.total:,} rows were answered in the window, and {policy.minimum_rows:,} are needed ({_told(measured)})."
        return DriftVerdict(DriftOutcome.NOT_ENOUGH_DATA, (why,), lack=Lack.ROWS)
    if not measured.columns:
        why = "No captured column can be compared with the reference."
        return DriftVerdict(DriftOutcome.NOT_ENOUGH_DATA, (why, *_left_out(measured)), lack=Lack.COLUMNS)
    drifted = [column for column in measured.columns if column.drifted(policy.psi)]
    needed = columns_needed(policy.share, len(measured.columns))
    size = f"{len(measured.columns)} columns over {measured.total:,} rows ({_told(measured)})"
    said = [_shifted(column, policy.psi) for column in drifted[:NAMED]]
    if len(drifted) >= needed:
        first = f"{len(drifted)} of {size} drifted, and {needed} are enough."
        names = tuple(column.column for column in drifted)
        return DriftVerdict(DriftOutcome.DRIFTED, (*said, first, *_left_out(measured)), names)
    undecided = [column for column in measured.columns if column.undecided(policy.psi)]
    if len(drifted) + len(undecided) >= needed:
        doubts = [_doubtful(column, policy.psi) for column in undecided[:NAMED]]
        return DriftVerdict(DriftOutcome.NOT_ENOUGH_DATA, (*said, *doubts, *_left_out(measured)), lack=Lack.CERTAINTY)
    greatest = measured.columns[0]
    calm = f"{len(drifted)} of {size} drifted, and {needed} would be needed; the greatest index is {greatest.psi} of '{greatest.column}'"
    return DriftVerdict(DriftOutcome.STABLE, (f"{calm} (limit {policy.psi}).", *said, *_left_out(measured)))


def columns_needed(share: Decimal, columns: int) -> int:
    """Return how many of the compared columns must drift: the declared share of them, and always one."""
    return max(1, math.ceil(share * columns))


def _comparable(reference: pd.DataFrame, captured: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    known = set(reference.columns)
    compared = [name for name in captured if name in known]
    skipped = [(name, "the reference has no such column") for name in captured if name not in known]
    # The label among them: it is what the model is asked for.
    skipped += [(name, "it is not among the captured rows") for name in map(str, reference.columns) if name not in set(captured)]
    return compared, skipped


@dataclass(frozen=True, slots=True)
class _Sides:
    """A column's counts over its bins: the reference's, and each region's."""

    column: str
    bins: Bins
    before: tuple[int, ...]
    now: Mapping[str, tuple[int, ...]]


def _sides(name: str, reference: pd.Series[Any], windows: Mapping[str, pd.DataFrame]) -> _Sides:
    captured = {region: window[name] for region, window in windows.items() if name in window.columns}
    reference, columns = alike(reference, list(captured.values()))
    bins = bins_of(reference)
    counted = {region: bins.count(column) for region, column in zip(captured, columns, strict=True)}
    # where a region never captured the column, all of its rows miss it
    missed = {region: (*([0] * (len(bins.labels) - 1)), len(window)) for region, window in windows.items()}
    return _Sides(name, bins, bins.count(reference), {region: counted.get(region, missed[region]) for region in windows})


def _column(sides: _Sides, error: float) -> ColumnDrift:
    before, per_region = sides.before, sides.now
    now = [sum(counts) for counts in zip(*per_region.values(), strict=True)]
    adds = contributions(before, now)
    most = max(range(len(adds)), key=adds.__getitem__)
    return ColumnDrift(
        column=sides.column,
        psi=_decimal(stability_index(before, now)),
        by_chance=_decimal(by_chance(before, now, error)),
        regions=tuple((region, _decimal(stability_index(before, counts))) for region, counts in per_region.items() if sum(counts)),
        where=sides.bins.labels[most],
        share=_decimal(shares(now)[most]),
        reference_share=_decimal(shares(before)[most]),
    )


def _decimal(value: float) -> Decimal:
    return Decimal(value).quantize(PLACES)


def _shifted(column: ColumnDrift, limit: Decimal) -> str:
    moved = f"{column.share:.1%} of the rows are {column.where}, in the reference {column.reference_share:.1%}"
    region, highest = max(column.regions, key=lambda found: found[1])
    return f"'{column.column}' drifted: index {column.psi} (limit {limit}); {moved}; most in {region} ({highest})."


def _doubtful(column: ColumnDrift, limit: Decimal) -> str:
    return f"'{column.column}' has index {column.psi} (limit {limit}), but with so few rows chance alone reaches {column.by_chance}."


def _told(measured: Measured) -> str:
    return ", ".join(f"{region} {count:,}" for region, count in measured.rows)


def _left_out(measured: Measured) -> tuple[str, ...]:
    return tuple(f"Not compared: '{name}', {why}." for name, why in measured.skipped)
