"""Evidently beside our own index: a second opinion for each column, and a report for people.

Distances, not tests: the p-values that Evidently takes for small references alarm in more than half of all unmoved
windows with many columns, and the more rows there are the more often.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monitoring.drift import columns_needed
from monitoring.stability import MOST_VALUES, alike, as_numbers, as_texts

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20_000
"""Rows of either side that are looked at: 100,000 take 12 s and 400 MB, a million 160 s."""
SEED = 7
NUMERIC_METHOD, CATEGORICAL_METHOD, THRESHOLD = "wasserstein", "jensenshannon", 0.1
NAMES = {NUMERIC_METHOD: "Wasserstein distance (normed)", CATEGORICAL_METHOD: "Jensen-Shannon distance"}
PLACES = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class ColumnScore:
    """What Evidently says of a column: the distance, by which method, beyond which it drifted."""

    column: str
    method: str
    score: Decimal
    threshold: Decimal
    drifted: bool


def compare(reference: pd.DataFrame, current: pd.DataFrame, columns: Sequence[str], share: Decimal, to: Path) -> tuple[ColumnScore, ...]:
    """Return Evidently's score of each column and write its report (HTML, 4 to 5 MB, self-contained).

    Columns without any value on one side are left out. Both sides are sampled down to MOST_ROWS rows. The report's own
    headline calls the rows drifted from the `share` of drifted columns on that our verdict does.
    """
    import pandas as pd

    compared = [name for name in columns if reference[name].notna().any() and name in current.columns and current[name].notna().any()]
    if not compared:
        return ()
    pairs = {name: _alike(reference[name], current[name]) for name in compared}
    frames = [pd.DataFrame({name: pair[side] for name, pair in pairs.items()}) for side in (0, 1)]
    numeric = [name for name in compared if _is_number(frames[0][name]) and frames[0][name].nunique() > MOST_VALUES]
    before, now = (_sampled(frame, numeric) for frame in frames)
    with warnings.catch_warnings():
        # of scipy and numpy about single-valued columns
        warnings.simplefilter("ignore")
        return _run(before, now, numeric, columns_needed(share, len(compared)), to)


def _run(reference: pd.DataFrame, current: pd.DataFrame, numeric: list[str], needed: int, to: Path) -> tuple[ColumnScore, ...]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numeric, categorical_columns=[name for name in reference.columns if name not in numeric])
    preset = DataDriftPreset(
        drift_share=needed / len(reference.columns),
        num_method=NUMERIC_METHOD,
        num_threshold=THRESHOLD,
        cat_method=CATEGORICAL_METHOD,
        cat_threshold=THRESHOLD,
    )
    now, before = (Dataset.from_pandas(frame, data_definition=definition) for frame in (current, reference))
    snapshot = Report([preset]).run(now, before)
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # it shows callers' values: for its owner alone from the first byte on
    aside = to.with_suffix(".unfinished")
    aside.unlink(missing_ok=True)
    aside.touch(mode=0o600, exist_ok=False)
    snapshot.save_html(str(aside))
    aside.rename(to)
    found = [_score(metric) for metric in snapshot.dict()["metrics"] if "column" in metric["config"]]
    return tuple(sorted(found, key=lambda one: (-one.score, one.column)))


def _score(metric: dict[str, Any]) -> ColumnScore:
    config = metric["config"]
    score, threshold = (Decimal(float(value)).quantize(PLACES) for value in (metric["value"], config["threshold"]))
    return ColumnScore(config["column"], NAMES[config["method"]], score, threshold, drifted=score >= threshold)


def _sampled(frame: pd.DataFrame, numeric: list[str]) -> pd.DataFrame:
    """Return at most MOST_ROWS rows, numbers as numbers and all else as texts (a missing one as None)."""
    import pandas as pd

    rows = frame.sample(min(MOST_ROWS, len(frame)), random_state=SEED).reset_index(drop=True)
    columns = {name: as_numbers(rows[name]) if name in numeric else _as_text(rows[name]) for name in rows.columns}
    return pd.DataFrame(columns)


def _alike(reference: pd.Series[Any], current: pd.Series[Any]) -> tuple[pd.Series[Any], pd.Series[Any]]:
    before, (now,) = alike(reference, [current])
    return before, now


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    return as_texts(as_numbers(column) if _is_number(column) else column)


def _is_number(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

    return (is_numeric_dtype(column) and not is_bool_dtype(column)) or is_datetime64_any_dtype(column)
