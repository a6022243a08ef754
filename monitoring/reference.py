"""The rows that a model learned from, as a frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_reference(file: Path) -> pd.DataFrame:
    """Return the rows of a Parquet or CSV file, by the end of its name; raises InputError for one that holds none."""
    import pandas as pd
    import pyarrow as pa

    remedy = "Correct the drift reference that fleet.yaml declares."
    try:
        rows = pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)
    except (pa.ArrowException, ValueError) as problem:
        raise InputError(f"reference {file.name}", f"cannot be read ({type(problem).__name__}: {problem})", remedy) from problem
    if rows.empty:
        raise InputError(f"reference {file.name}", "has no rows", remedy)
    return rows.rename(columns=str)
