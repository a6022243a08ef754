"""What `gates.robustness` may say: how rows are disturbed, and what may come of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from fleet.declaring import Declared

Share = Annotated[Decimal, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1000)]
Amounts = dict[Annotated[str, Field(min_length=1)], Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Noise(Declared):
    """Moves every number by chance: by `strength` standard deviations of its column, a normal one.

    `columns` names other amounts for single columns, in their own unit; 0 leaves a column alone. A share of `flips` of
    the rows may be decided otherwise.
    """

    strength: Strength = 0.1
    columns: Amounts = Field(default_factory=dict)
    flips: Share = Decimal("0.05")


class Missing(Declared):
    """Takes one value of each row away; without `flips` any share of the rows may be decided otherwise."""

    flips: Share | None = None


class Unseen(Declared):
    """Gives one category of each row a value that no row has; text is a category, and whole numbers of few values are.

    Few are `most_values` at most. Without `flips` any share of the rows may be decided otherwise.
    """

    most_values: Annotated[int, Field(ge=1, le=10_000)] = 50
    flips: Share | None = None


class OutOfRange(Declared):
    """Sets one number of each row far outside: `strength` ranges of its column away, or at the end of its type.

    Without `flips` any share of the rows may be decided otherwise.
    """

    strength: Annotated[float, Field(gt=0, le=1_000_000)] = 10
    flips: Share | None = None


class WrongTypes(Declared):
    """Sends what is no such row at all: other types, other shapes, missing and unknown columns, broken JSON."""


class Search(Declared):
    """Looks for the smallest change that turns a decision, with so many `predictions` in all and from so many `rows`.

    A number may move by `strength` standard deviations of its column, or by what `columns` names for it in its own unit.
    A share of `flips` of the rows may be turned.
    """

    flips: Share
    strength: Strength = 0.1
    columns: Amounts = Field(default_factory=dict)
    rows: Annotated[int, Field(ge=1, le=10_000)] = 50
    predictions: Annotated[int, Field(ge=100, le=1_000_000)] = 5000


class Robustness(Declared):
    """How a candidate bears disturbed requests: each is answered or refused with a 4xx, never a 5xx, never without a number.

    `rows` rows of the evaluation are disturbed in each way that is not null; all of it may take `seconds`. A decision is
    the class that an answer chooses; of a model that gives quantities, a change by `tolerance` standard deviations of its
    undisturbed answers is another decision.
    """

    rows: Annotated[int, Field(ge=10, le=10_000)] = 100
    seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    tolerance: Annotated[float, Field(gt=0, le=100)] = 0.5
    noise: Noise | None = Noise()
    missing: Missing | None = Missing()
    unseen: Unseen | None = Unseen()
    out_of_range: OutOfRange | None = OutOfRange()
    wrong_types: WrongTypes | None = WrongTypes()
    search: Search | None = None
