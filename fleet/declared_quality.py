"""What `gates.quality` may say: how a candidate is compared with the champion row by row."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.declaring import Declared

Limit = Annotated[Decimal, Field(ge=0, le=1_000_000_000)]
Part = Annotated[Decimal, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]


class Slice(Declared):
    """Rows that are compared by themselves: those whose `column` has one of `values`, or lies in `low` to below `high`.

    The candidate may lose `limit` of the metric there. With fewer than `minimum_rows` rows nothing can be told.
    """

    column: Text
    values: Annotated[tuple[bool | int | Finite | str, ...], Field(max_length=1000)] = ()
    low: Finite | None = None
    high: Finite | None = None
    limit: Limit
    minimum_rows: Annotated[int, Field(ge=10, le=10_000_000)] = 100

    @property
    def name(self) -> str:
        """The slice as reasons and reports name it."""
        if self.values:
            return f"{self.column} = {' or '.join(map(str, self.values))}"
        ends = (f"from {self.low:g}" if self.low is not None else "", f"below {self.high:g}" if self.high is not None else "")
        return f"{self.column} {' '.join(end for end in ends if end)}"

    @model_validator(mode="after")
    def _values_or_range(self) -> Self:
        if bool(self.values) == (self.low is not None or self.high is not None):
            raise ValueError("a slice needs either values or a range (low, high)")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be below high (found {self.low:g} and {self.high:g})")
        return self


class Calibration(Declared):
    """How far the candidate's probabilities may be from what happened.

    `limit` is for the expected calibration error over `bins` bins, of equal `width` or of equally many rows (`rows`);
    `brier` for the Brier score.
    """

    limit: Part
    brier: Part | None = None
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    binning: Literal["width", "rows"] = "width"


class Quality(Declared):
    """How a candidate is compared with the champion on the same rows, those of the evaluation and by its metric.

    It may lose `margin` over all rows, and in each of the `slices` what that one allows. A loss is certain where the
    interval of that `confidence` says so: one above its limit fails, one within it passes. In between, `without_verdict`
    decides: the gate is `inconclusive`, or the `estimate` decides. `resamples` is how often rows are drawn anew. With
    fewer than `minimum_rows` rows nothing can be told.
    """

    margin: Limit
    confidence: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.95
    resamples: Annotated[int, Field(ge=200, le=100_000)] = 2000
    minimum_rows: Annotated[int, Field(ge=10, le=10_000_000)] = 200
    slices: Annotated[tuple[Slice, ...], Field(max_length=200)] = ()
    calibration: Calibration | None = None
    without_verdict: Literal["inconclusive", "estimate"] = "inconclusive"

    @property
    def error(self) -> float:
        """How often at most a gate may be wrong in one direction."""
        return (1 - self.confidence) / 2

    @model_validator(mode="after")
    def _slices_differ(self) -> Self:
        names = [one.name for one in self.slices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"slices names {', '.join(twice)} twice")
        return self

    @model_validator(mode="after")
    def _resamples_can_convict(self) -> Self:
        # The smallest p-value of a bootstrap is 1 / (resamples + 1), and Holm divides the error by the number of questions
        asked = 1 + len(self.slices) + (0 if self.calibration is None else 1 + (self.calibration.brier is not None))
        wanted = round(asked / self.error)
        if self.resamples < wanted:
            raise ValueError(f"resamples must be {wanted} at least for {asked} questions at a confidence of {self.confidence:g}")
        return self
