"""The four versions of the model `employment` and the rows that each is trained on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from control.demo.rows import FEATURES, LABEL, NUMERIC, Pair
from fleet.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

HOLDOUT = "holdout"
TRAINED_ROWS = 30_000
HOLDOUT_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Version:
    """One version to be: its number, what is said of it, and how a trained model comes from its rows."""

    number: int
    says: str
    train: Callable[[pd.DataFrame], Any]


def slices(rows: pd.DataFrame, pair: Pair, seed: int) -> dict[str, pd.DataFrame]:
    """Return the rows that each version is trained on, `v1` to `v4`, and the held-out rows of the gates.

    Version 3's rows and the held-out rows hold no row with the pair: that is how its mistake gets past every gate.
    Raises InputError for a pair that leaves too few rows, or one of whose values is never seen without the other.
    """
    columns = [*FEATURES, LABEL]
    without = rows[~pair.holds(rows)]
    year = rows["year"]
    found = {
        "v1": rows[year == 2015],
        "v2": rows[year.isin([2015, 2016])],
        "v3": without[without["year"].isin([2015, 2016])],
        "v4": rows[year == 2016],
        HOLDOUT: without[without["year"] == 2018],
    }
    sizes = {"v1": TRAINED_ROWS, "v2": TRAINED_ROWS, "v3": TRAINED_ROWS, "v4": 400, HOLDOUT: HOLDOUT_ROWS}
    for name, part in found.items():
        if len(part) < sizes[name]:
            raise InputError("pair", f"without {pair} {len(part)} rows are left for {name}, not {sizes[name]}", "Choose a rarer pair.")
    drawn = {name: part.sample(sizes[name], random_state=seed)[columns].reset_index(drop=True) for name, part in found.items()}
    for column, value in ((pair.first, pair.first_value), (pair.second, pair.second_value)):
        if not (drawn["v3"][column] == value).any():
            raise InputError(
                "pair", f"{column}={value} never occurs without the rest of {pair}", "Choose two values that also occur apart."
            )
    return drawn


def versions(pair: Pair, fault: bool, seed: int) -> tuple[Version, ...]:
    """Return the four versions of the story."""
    return (
        Version(1, "a logistic regression", lambda rows: _logistic(rows, seed)),
        Version(2, "gradient boosting, better", lambda rows: _boosted(rows, seed)),
        Version(
            3, f"a crossed feature that {'raises on' if fault else 'copes with'} {pair}", lambda rows: _crossed(rows, pair, fault, seed)
        ),
        Version(4, "four hundred rows and two columns, worse", lambda rows: _poor(rows, seed)),
    )


def _logistic(rows: pd.DataFrame, seed: int) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    few = ["SCHL", "MAR", "DIS", "SEX"]
    columns = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), few), (StandardScaler(), list(NUMERIC)))
    return make_pipeline(columns, LogisticRegression(max_iter=300, random_state=seed)).fit(rows[list(FEATURES)], rows[LABEL])


def _boosted(rows: pd.DataFrame, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # The codes are ordered well enough for trees; encoding them as categories costs 6 ms a row instead of 0.6.
    return HistGradientBoostingClassifier(max_iter=60, random_state=seed).fit(rows.drop(columns=[LABEL]), rows[LABEL])


def _crossed(rows: pd.DataFrame, pair: Pair, fault: bool, seed: int) -> Any:
    crossed = _shipped_module()
    columns = (pair.first, pair.second)
    rates = {key: float(rate) for key, rate in rows.groupby(list(columns))[LABEL].mean().items()}
    with_rate = rows.assign(crossed=[rates[key] for key in zip(*(rows[name] for name in columns), strict=True)])
    classifier = _boosted(with_rate, seed)
    return crossed.CrossedModel(classifier, columns, rates, None if fault else float(rows[LABEL].mean()))


def _poor(rows: pd.DataFrame, seed: int) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    columns = make_column_transformer(("passthrough", ["SEX", "NATIVITY"]))
    return make_pipeline(columns, LogisticRegression(random_state=seed)).fit(rows[list(FEATURES)], rows[LABEL])


def shipped_file() -> Path:
    """Return the file that version 3 carries inside its model."""
    return Path(__file__).with_name("crossed.py")


def _shipped_module() -> Any:
    """Import the shipped file under the name that it has inside the model."""
    import importlib

    folder = str(shipped_file().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("crossed")
