"""How far a column has moved from its reference: the population stability index.

    PSI = sum over bins of (current share - reference share) * ln(current share / reference share)

It is 0 for equal shares and grows without bound; credit scoring calls less than 0.1 stable and more than 0.2 (or 0.25) a
shift (Lewis, "An Introduction to Credit Scoring", 1994; Siddiqi, "Credit Risk Scorecards", 2006). The bins come from the
reference alone: tenths of a numeric column, the values themselves of any other and of a numeric one with few of them, the
missing always apart. A share of nothing counts as FLOOR, or one new value would make the index infinite.

Two sides may store the same values in different types: `alike` brings them to one before anything is counted.

Counts over fixed bins add up, so the counts of regions sum to those of all rows, exactly.

Even rows of the very same kind have an index above 0: with B bins, n rows and m reference rows it is about
(1/n + 1/m) times a chi-squared variable with B - 1 degrees of freedom (Yurdakul, "Statistical Properties of Population
Stability Index", Western Michigan University, 2018). `by_chance` is a high quantile of that, with the cube-root
approximation of Wilson and Hilferty (PNAS 17, 1931).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

FLOOR = 1e-4
QUANTILES = 10
MOST_VALUES = 20
"""A numeric column with more values is cut into quantiles; of any other, the rarer values share one bin."""
NANOSECONDS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
MISSING, OTHER = "missing", "of another value"


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Bins of a numeric column: up to each edge, and above the last."""

    edges: tuple[float, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """What each bin holds."""
        between = [f"above {low:g} up to {high:g}" for low, high in zip(self.edges, self.edges[1:], strict=False)]
        return (f"up to {self.edges[0]:g}", *between, f"above {self.edges[-1]:g}", OTHER, MISSING)

    def count(self, column: pd.Series[Any]) -> tuple[int, ...]:
        """Return the rows in each bin; what is no number at all counts as any other value."""
        import numpy as np

        numbers, other, missing = _numbers(column)
        found = np.searchsorted(np.asarray(self.edges), numbers, side="left")
        return (*(int(count) for count in np.bincount(found, minlength=len(self.edges) + 1)), other, missing)


@dataclass(frozen=True, slots=True)
class Values:
    """One bin for each value: numbers for a numeric column, else texts."""

    values: tuple[float, ...] | tuple[str, ...]
    numeric: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """What each bin holds."""
        return (*(f"equal to {value:g}" if isinstance(value, float) else f"equal to '{value}'" for value in self.values), OTHER, MISSING)

    def count(self, column: pd.Series[Any]) -> tuple[int, ...]:
        """Return the rows of each value, of all others together, and of none."""
        present, other, missing = _numbers(column) if self.numeric else _texts(column)
        found, counts = _counted(present)
        known = dict(zip(found, counts, strict=True))
        listed = [known.pop(value, 0) for value in self.values]
        return (*listed, other + sum(known.values()), missing)


Bins = Quantiles | Values


def alike(reference: pd.Series[Any], captured: Sequence[pd.Series[Any]]) -> tuple[pd.Series[Any], list[pd.Series[Any]]]:
    """Return a column's two sides with equal values where they mean the same: each is brought to the coarser type of both.

    Real numbers become 32 bits wide where one captured side has no more; texts become times or numbers where the other
    side has such, a reference only as a whole. What does not turn into it stays as it is, and so is of another value.
    """
    from pandas.api.types import is_datetime64_any_dtype

    if any(is_datetime64_any_dtype(column) for column in (reference, *captured)):
        return _moments(reference), [_moments(column) for column in captured]
    if any(_is_numeric(column) for column in captured):
        reference = _wholly_numbers(reference)
    if _is_numeric(reference) and any(str(column.dtype) in ("float16", "float32") for column in captured):
        return _narrow(reference), [_narrow(column) for column in captured]
    return reference, list(captured)


def as_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column as 64-bit real numbers, times as nanoseconds whatever unit they are stored in; NaN for what is none."""
    import pandas as pd
    from pandas.api.types import is_datetime64_any_dtype

    if is_datetime64_any_dtype(column):
        return (column.astype("int64").astype("float64") * NANOSECONDS[column.dt.unit]).where(column.notna())
    return pd.to_numeric(column, errors="coerce").astype("float64")


def as_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return values as texts that are equal where the values are, also when one side has '3', one 3 and one 3.0."""
    return column.astype(object).map(_text, na_action="ignore")


def bins_of(reference: pd.Series[Any]) -> Bins:
    """Return the bins that a reference column fixes for good; a column without any value has only a bin for the missing."""
    import numpy as np

    if not _is_numeric(reference):
        found, counts = _counted(_texts(reference)[0])
        commonest = sorted(zip(counts, found, strict=True), key=lambda pair: (-pair[0], pair[1]))[:MOST_VALUES]
        return Values(tuple(sorted(value for _, value in commonest)), numeric=False)
    numbers, _, _ = _numbers(reference)
    found, _ = _counted(numbers)
    if len(found) <= MOST_VALUES:
        return Values(tuple(found), numeric=True)
    # Real values of the column, so that rounding moves no row over an edge; ties make fewer and wider bins.
    inner = np.quantile(numbers, [step / QUANTILES for step in range(1, QUANTILES)], method="inverted_cdf")
    return Quantiles(tuple(dict.fromkeys(float(edge) for edge in inner)))


def stability_index(reference: Sequence[int], current: Sequence[int]) -> float:
    """Return the index of two counts over the same bins; both must have rows."""
    return sum(contributions(reference, current))


def contributions(reference: Sequence[int], current: Sequence[int]) -> list[float]:
    """Return what each bin adds to the index, never less than 0."""
    pairs = zip(shares(reference), shares(current), strict=True)
    floored = [(max(before, FLOOR), max(now, FLOOR)) for before, now in pairs]
    return [(now - before) * math.log(now / before) for before, now in floored]


def shares(counts: Sequence[int]) -> list[float]:
    """Return each bin's share of the rows."""
    total = sum(counts)
    return [count / total for count in counts]


def by_chance(reference: Sequence[int], current: Sequence[int], error: float) -> float:
    """Return the index that rows of the reference's own kind exceed with a probability of about `error`."""
    used = sum(1 for before, now in zip(reference, current, strict=True) if before or now)
    degrees = max(used - 1, 1)
    z = NormalDist().inv_cdf(1 - error)
    chi_squared = degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3
    return chi_squared * (1 / sum(reference) + 1 / sum(current))


def _is_numeric(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

    return is_numeric_dtype(column) or is_bool_dtype(column) or is_datetime64_any_dtype(column)


def _numbers(column: pd.Series[Any]) -> tuple[np.ndarray[Any, Any], int, int]:
    """Return the column's numbers (times as nanoseconds), and how many values are none, and how many are missing."""
    present = column.dropna()
    numbers = as_numbers(present).dropna().to_numpy(dtype="float64")
    return numbers, len(present) - len(numbers), len(column) - len(present)


def _texts(column: pd.Series[Any]) -> tuple[np.ndarray[Any, Any], int, int]:
    present = column.dropna()
    return as_texts(present).to_numpy(dtype=object), 0, len(column) - len(present)


def _text(value: object) -> str:
    """Return the one text of a value; 15 digits are what every decimal number keeps in 64 bits."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return texts and dates as nanoseconds, as far as they are times; numbers and times stay what they are."""
    import pandas as pd

    if _is_numeric(column):
        return column
    found = as_numbers(pd.to_datetime(column, errors="coerce", utc=True, format="mixed"))
    return found if bool((found.notna() == column.notna()).all()) else found.astype(object).where(found.notna(), column)


def _wholly_numbers(column: pd.Series[Any]) -> pd.Series[Any]:
    if _is_numeric(column):
        return column
    found = as_numbers(column)
    return found if bool((found.notna() == column.notna()).all()) else column


def _narrow(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column of numbers with 32 bits each, and any other as it is."""
    import pandas as pd

    if not _is_numeric(column):
        return column
    return pd.Series(column.to_numpy(dtype="float32", na_value=float("nan")), index=column.index)


def _counted(values: np.ndarray[Any, Any]) -> tuple[list[Any], list[int]]:
    import pandas as pd

    counts = pd.Series(values).value_counts().sort_index()
    return counts.index.tolist(), [int(count) for count in counts]
