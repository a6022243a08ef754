"""What the comparing worker is asked and what it answers; light, because both sides import it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from policies.workers.messages import Metric, Predictions


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are compared by themselves, all where no column is named: one of `values`, or from `low` to below `high`.

    `limit` is what the candidate may lose there, `least` how many rows it takes to tell.
    """

    name: str
    limit: float
    least: int
    column: str = ""
    values: tuple[bool | int | float | str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Bins:
    """How calibration is looked at: bins, what the expected calibration error and the Brier score may be, the fewest rows."""

    bins: int
    binning: Literal["width", "rows"]
    limit: float
    brier: float | None
    least: int


@dataclass(frozen=True, slots=True)
class CompareRequest:
    """Compare two models' predictions of a parquet file's rows part by part, and look at the calibration of the first.

    With one model alone there is nothing to compare. `confidence`, `resamples` and `seed` are those of the intervals.
    """

    rows: Path
    label: str
    metric: Metric
    models: tuple[Predictions, ...]
    parts: tuple[Part, ...]
    bins: Bins | None
    confidence: float
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to one question: an estimate with its interval and its p-values against a limit, as `paired.Found` has them.

    `candidate` and `champion` are what was compared, where something was. `problem` says why there is no answer.
    """

    name: str
    rows: int
    limit: float
    candidate: float | None = None
    champion: float | None = None
    estimate: float = 0.0
    low: float = 0.0
    high: float = 0.0
    p_above: float = 1.0
    p_within: float = 1.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Reliable:
    """One bin of the reliability table: its ends, its rows, the mean probability there and the share of label 1."""

    low: float
    high: float
    rows: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found, in the order of the request; `problem` says why nothing was, `wrong_rows` why the rows are of no use.

    `by_champion` says that the champion alone is why nothing was.
    """

    parts: tuple[Asked, ...] = ()
    calibration: tuple[Asked, ...] = ()
    bins: tuple[Reliable, ...] = ()
    problem: str = ""
    wrong_rows: str = ""
    by_champion: bool = False
