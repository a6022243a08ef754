"""What `fleet.yaml` may say of a model's golden answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field, model_validator

from fleet.declaring import Declared

MOST_ROWS = 1000
Text = Annotated[str, Field(min_length=1)]
Distance = Annotated[Decimal, Field(ge=0, le=1_000_000_000)]
Small = Decimal("0.000001")


class Tolerance(Declared):
    """How far an answer may be from the golden one: `absolute`, and `relative` times the golden answer's size beside it."""

    absolute: Distance = Small
    relative: Distance = Small


class Golden(Declared):
    """Rows with the answers that every region must give before it gets traffic, and again on a schedule.

    `repository`, `path` and `revision` name a Parquet file that DVC tracks: a column for each input of the model, and
    `prediction.<output>` for each of its outputs, `prediction.<output>.<place>` where it has several numbers a row, as
    captured rows have them. Without a file the answers count that the candidate itself gave in the gates' sandbox to
    `parity` rows: of its evaluation, else of its training, else of its input example.

    `tolerance` holds for every output that `outputs` does not name; text and truth must be equal. So many of the rows
    `may_differ`.
    """

    repository: Text | None = None
    path: Annotated[str, Field(pattern=r"\.parquet$")] | None = None
    revision: Text = "HEAD"
    parity: Annotated[int, Field(ge=1, le=MOST_ROWS)] = 20
    tolerance: Tolerance = Tolerance()
    outputs: dict[Text, Tolerance] = Field(default_factory=dict)
    may_differ: Annotated[int, Field(ge=0, lt=MOST_ROWS)] = 0

    @model_validator(mode="after")
    def _file_or_parity(self) -> Self:
        if (self.repository is None) != (self.path is None):
            raise ValueError("repository and path name the file of golden answers together: declare both, or neither for parity")
        if self.path is not None and "parity" in self.model_fields_set:
            raise ValueError("parity makes golden answers where no file has them: declare it, or repository and path")
        if self.path is None and self.may_differ >= self.parity:
            raise ValueError(f"may_differ must be below parity, or no answer could ever differ (found {self.may_differ} of {self.parity})")
        return self

    def tolerance_of(self, output: str) -> Tolerance:
        """Return what holds for an output; one of several numbers is named by the output or by itself (`output.1`)."""
        return self.outputs.get(output) or self.outputs.get(output.rpartition(".")[0]) or self.tolerance
