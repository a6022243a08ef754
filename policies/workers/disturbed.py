"""What the disturbing worker is asked and what it answers; light, because both sides import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["noise", "missing", "unseen", "out of range", "wrong types"]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One way to disturb rows; `columns` are amounts in a column's own unit, `strength` counts standard deviations or ranges."""

    kind: Kind
    strength: float = 0.0
    columns: Mapping[str, float] = field(default_factory=dict)
    most_values: int = 0


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How far numbers may move, from how many rows on, and how many predictions that may take in all."""

    strength: float
    columns: Mapping[str, float]
    rows: int
    predictions: int


@dataclass(frozen=True, slots=True)
class DisturbRequest:
    """Serve the MLflow model in a folder by the scoring service's own code (`service`), and disturb rows of a parquet file.

    Of its rows `count` are drawn by the seed. `quantity` says that the model gives quantities, of which a change by
    `tolerance` standard deviations counts as another decision.
    """

    service: Path
    model: Path
    rows: Path
    count: int
    quantity: bool
    tolerance: float
    disturbances: tuple[Disturbance, ...]
    search: SearchPlan | None
    seed: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A request that was neither answered with numbers nor refused: what was done to which column, and what came back."""

    what: str
    column: str
    status: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one way to disturb rows: requests, answers, refusals (4xx), and answers that decide otherwise.

    `broken` counts the rest and `examples` are some of them. Without any request there was nothing to disturb so.
    """

    kind: str
    asked: int = 0
    answered: int = 0
    refused: int = 0
    flipped: int = 0
    broken: int = 0
    examples: tuple[Broken, ...] = ()


@dataclass(frozen=True, slots=True)
class Searched:
    """What the search found: rows, how many it turned, the predictions it took, and each turned row's distance.

    A distance is the part (0..1) of what may be moved that turns the decision; `moved` are the columns that may move.
    """

    rows: int
    flipped: int
    predictions: int
    distances: tuple[float, ...] = ()
    moved: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Disturbed:
    """What was found, in the order of the request; `problem` says why nothing was, `unknown` why nothing could be tried."""

    trials: tuple[Trial, ...] = ()
    searched: Searched | None = None
    problem: str = ""
    unknown: str = ""
