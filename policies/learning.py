"""Learns a data contract from rows that are known to be good; people edit it afterwards.

What it writes are types, bounds and categories with what was seen, never a row: bounds are widened and rounded outwards, and
categories are named only where they are few and each has many rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.canonical import digest_of_file
from fleet.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LEAST_ROWS = 50
WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FRACTIONAL = ["float16", "float32", "float64"]
GRID = 100
"""Bounds are rounded outwards to a hundredth of the range, or coarser: no row's own value stands in a contract."""
LEAST_REACH = 1e-9
"""A range that is smaller than this part of its numbers is none."""

Expectation = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Slack:
    """How far what will come may differ from what was seen.

    `part` widens each range by that part of it on both sides, and allows so much more to be missing and so many rows more
    or fewer. Values are named as categories where there are `categories` at most, each with `least_rows` rows.
    """

    part: float = 0.1
    categories: int = 25
    least_rows: int = 5


def learn(rows: Path, name: str, sets: str, slack: Slack) -> dict[str, Any]:
    """Return a suite that the rows of a Parquet or CSV file meet; the same rows give the same suite.

    `sets` names the rows that the number of rows is for. Raises InputError for a file that cannot be read or has few rows.
    """
    frame = _read(rows)
    if len(frame) < LEAST_ROWS:
        raise InputError(str(rows), f"has {len(frame)} rows: too few to learn from", f"Give a file of {LEAST_ROWS} rows at least.")
    seen = f"Learnt from {rows.name}, {digest_of_file(rows)}: {len(frame):,} rows, {len(frame.columns)} columns"
    notes = [f"{seen}. Slack {slack.part:g}.", "Edit it: what holds by chance should go, what must hold should come."]
    return {"name": name, "notes": notes, "expectations": [*_table(frame, sets, slack), *_columns(frame, slack)]}


def as_text(suite: dict[str, Any]) -> str:
    """Return a suite as a file that people read and compare: one line for each expectation."""
    lines = [f"    {json.dumps(one, ensure_ascii=False)}" for one in suite["expectations"]]
    notes = [f"    {json.dumps(note, ensure_ascii=False)}" for note in suite["notes"]]
    joined = ",\n"
    return (
        f'{{\n  "name": {json.dumps(suite["name"])},\n  "notes": [\n{joined.join(notes)}\n  ],\n'
        f'  "expectations": [\n{joined.join(lines)}\n  ]\n}}\n'
    )


def _read(rows: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow

    try:
        return pd.read_csv(rows) if rows.suffix == ".csv" else pd.read_parquet(rows)
    except FileNotFoundError as problem:
        raise InputError(str(rows), "there is no such file", "Give a Parquet or CSV file.") from problem
    except (OSError, ValueError, pyarrow.ArrowException) as problem:
        raise InputError(str(rows), f"is no Parquet or CSV file ({type(problem).__name__})", "Give a Parquet or CSV file.") from problem


def _table(frame: pd.DataFrame, sets: str, slack: Slack) -> Iterator[Expectation]:
    yield _expect("table_columns_to_match_set", "These columns and no others", column_set=list(map(str, frame.columns)), exact_match=True)
    apart = round(len(frame) * slack.part)
    few, many = max(0, len(frame) - apart), len(frame) + apart
    counted = _expect("table_row_count_to_be_between", f"{len(frame):,} rows seen", min_value=few, max_value=many)
    yield counted | {"meta": {"sets": [sets]}}


def _columns(frame: pd.DataFrame, slack: Slack) -> Iterator[Expectation]:
    for name in map(str, frame.columns):
        yield from _column(name, frame[name], slack)


def _column(name: str, values: pd.Series[Any], slack: Slack) -> Iterator[Expectation]:
    """Yield what one column's values have in common."""
    from pandas.api import types

    missing = float(values.isna().mean())
    known = values.dropna()
    yield _presence(name, missing, slack)
    if known.empty:
        return
    if types.is_bool_dtype(values):
        yield _expect("column_values_to_be_in_type_list", "Truth values", column=name, type_list=["bool"])
    elif types.is_numeric_dtype(values):
        yield from _number(name, known, slack, whole=types.is_integer_dtype(values))
    elif types.is_object_dtype(values) and all(isinstance(value, str) for value in known):
        yield from _text(name, known, slack)


def _presence(name: str, missing: float, slack: Slack) -> Expectation:
    if not missing:
        return _expect("column_values_to_not_be_null", "None missing", column=name)
    # Rounded down to a thousandth; GX fails a column below it
    mostly = max(0.0, math.floor((1 - missing - slack.part) * 1000) / 1000)
    return _expect("column_values_to_not_be_null", f"{missing:.1%} missing", column=name, mostly=mostly)


def _number(name: str, known: pd.Series[Any], slack: Slack, *, whole: bool) -> Iterator[Expectation]:
    yield _expect(
        "column_values_to_be_in_type_list",
        "Whole numbers" if whole else "Numbers",
        column=name,
        type_list=WHOLE if whole else FRACTIONAL,
    )
    values = _categories(known, slack) if whole else []
    if values:
        yield _expect("column_values_to_be_in_set", f"{len(values)} values seen, each often", column=name, value_set=values)
        return
    low, high = bounds(float(known.min()), float(known.max()), slack.part, whole=whole)
    yield _expect("column_values_to_be_between", "The range seen, widened and rounded", column=name, min_value=low, max_value=high)
    if whole:
        yield from _uniqueness(name, known)


def _text(name: str, known: pd.Series[Any], slack: Slack) -> Iterator[Expectation]:
    yield _expect("column_values_to_be_in_type_list", "Texts", column=name, type_list=["str"])
    values = _categories(known, slack)
    if values:
        yield _expect("column_values_to_be_in_set", f"{len(values)} values seen, each often", column=name, value_set=values)
        return
    lengths = known.str.len()
    low, high = bounds(float(lengths.min()), float(lengths.max()), slack.part, whole=True)
    says = "The lengths seen, widened; the values are too many or too rare to be named"
    yield _expect("column_value_lengths_to_be_between", says, column=name, min_value=max(0, low), max_value=high)
    yield from _uniqueness(name, known)


def _categories(known: pd.Series[Any], slack: Slack) -> list[Any]:
    """Return the values in their order where they are few and none is rare, else nothing: a rare value may be a person's own."""
    counts = known.value_counts()
    if len(counts) > slack.categories or int(counts.min()) < slack.least_rows:
        return []
    return sorted(counts.index.tolist())


def _uniqueness(name: str, known: pd.Series[Any]) -> Iterator[Expectation]:
    if known.is_unique:
        yield _expect("column_values_to_be_unique", "Every value was seen once", column=name)


def bounds(low: float, high: float, part: float, *, whole: bool) -> tuple[Any, Any]:
    """Return a range widened by a part of itself on both sides and rounded outwards; a range of one value is widened by that value."""
    largest = max(abs(low), abs(high))
    reach = high - low if high - low > largest * LEAST_REACH else largest
    reach = reach if reach > LEAST_REACH else 1.0
    step = 10.0 ** math.floor(math.log10(reach * max(part, 1 / GRID)))
    if whole:
        step = max(step, 1.0)
    lower, upper = (math.floor((low - part * reach) / step), math.ceil((high + part * reach) / step))
    if whole:
        return int(lower * step), int(upper * step)
    digits = max(0, -math.floor(math.log10(step)))
    return round(lower * step, digits), round(upper * step, digits)


def _expect(kind: str, notes: str, **kwargs: Any) -> Expectation:
    return {"type": f"expect_{kind}", "kwargs": kwargs, "notes": notes}
