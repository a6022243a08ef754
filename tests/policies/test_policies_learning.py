from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fleet.errors import InputError
from fleet.evidence import GateOutcome
from policies.candidate import Candidate
from policies.contract import DataContract
from policies.learning import Slack, as_text, bounds, learn

GATE = DataContract()


@pytest.fixture
def people() -> pandas.DataFrame:
    random = np.random.default_rng(5)
    count = 400
    return pandas.DataFrame(
        {
            "number": np.arange(100_000, 100_000 + count),
            "name": [f"person {index:03}" for index in range(count)],
            "city": np.where(random.random(count) < 0.5, "Bonn", "Lyon"),
            "rooms": random.integers(1, 6, count),
            "wage": np.where(random.random(count) < 0.2, np.nan, random.normal(3_000, 400, count)),
            "member": random.random(count) < 0.5,
        }
    )


def by_kind(suite: dict[str, Any], column: str) -> dict[str, dict[str, Any]]:
    found = {one["type"].removeprefix("expect_"): one["kwargs"] for one in suite["expectations"] if one["kwargs"].get("column") == column}
    return {kind: {name: value for name, value in kwargs.items() if name != "column"} for kind, kwargs in found.items()}


@pytest.fixture
def learnt(people: pandas.DataFrame, tmp_path: Path) -> dict[str, Any]:
    people.to_parquet(tmp_path / "people.parquet")
    return learn(tmp_path / "people.parquet", "people", "training", Slack())


def test_types_ranges_categories_missing_values_and_keys_are_learnt(learnt: dict[str, Any]) -> None:
    assert by_kind(learnt, "city")["column_values_to_be_in_set"] == {"value_set": ["Bonn", "Lyon"]}
    assert by_kind(learnt, "rooms")["column_values_to_be_in_set"] == {"value_set": [1, 2, 3, 4, 5]}
    assert "column_values_to_be_unique" in by_kind(learnt, "number")
    wage = by_kind(learnt, "wage")
    assert 0.6 < wage["column_values_to_not_be_null"]["mostly"] < 0.75
    assert wage["column_values_to_be_between"]["min_value"] < 2_000
    assert by_kind(learnt, "rooms")["column_values_to_not_be_null"] == {}
    assert by_kind(learnt, "member")["column_values_to_be_in_type_list"] == {"type_list": ["bool"]}
    table = {one["type"]: one for one in learnt["expectations"][:2]}
    assert table["expect_table_row_count_to_be_between"]["kwargs"] == {"min_value": 360, "max_value": 440}
    assert table["expect_table_row_count_to_be_between"]["meta"] == {"sets": ["training"]}


def test_no_rows_value_is_written_but_frequent_categories(people: pandas.DataFrame, learnt: dict[str, Any]) -> None:
    text = as_text(learnt)
    assert not any(name in text for name in people["name"])
    assert not any(str(value) in text for value in (people["number"].min(), people["number"].max(), people["wage"].min()))
    rare = people.assign(city=["Oslo", *["Bonn"] * 399])
    assert "Oslo" not in as_text(learn_frame(rare)), "the city of one person is that person's own"


def learn_frame(frame: pandas.DataFrame, slack: Slack | None = None) -> dict[str, Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        frame.to_csv(Path(folder) / "rows.csv", index=False)
        return learn(Path(folder) / "rows.csv", "rows", "golden", slack or Slack())


def test_more_values_than_may_be_named_are_not_named(people: pandas.DataFrame) -> None:
    assert "Bonn" not in as_text(learn_frame(people, Slack(categories=1)))
    assert "Bonn" in as_text(learn_frame(people, Slack(categories=2)))


def test_the_same_rows_give_the_same_file_one_line_an_expectation(people: pandas.DataFrame, learnt: dict[str, Any]) -> None:
    text = as_text(learnt)
    assert json.loads(text) == learnt
    assert as_text(learn_frame(people)) == as_text(learn_frame(people))
    assert sum(line.strip().startswith('{"type"') for line in text.splitlines()) == len(learnt["expectations"])
    assert "400 rows" in learnt["notes"][0]


def test_the_rows_meet_what_was_learnt_from_them_and_others_do_not(
    candidate: Candidate, people: pandas.DataFrame, learnt: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "contract.json").write_text(as_text(learnt))
    moved = people.assign(city="Oslo", number=5).head(50)
    moved.to_parquet(tmp_path / "moved.parquet")
    people.head(60).to_parquet(tmp_path / "golden.parquet")
    golden, moved_rows = tmp_path / "golden.parquet", tmp_path / "moved.parquet"
    given = replace(candidate, contract=tmp_path / "contract.json", training=tmp_path / "people.parquet", evaluation=None)
    result = GATE.evaluate(replace(given, golden=golden, validation=moved_rows))
    assert result.outcome is GateOutcome.FAILED
    told = "\n".join(result.reasons)
    assert "validation rows: expect_column_values_to_be_in_set on city: 50 of 50 values" in told
    assert "validation rows: expect_column_values_to_be_unique on number" in told
    assert "training rows" not in told
    assert "golden rows" not in told, "the number of rows is for the training rows alone"
    assert dict(result.figures)["golden rows"] == "60"


@given(some.floats(-1e6, 1e6), some.floats(0, 1e6), some.floats(0.01, 1), some.booleans())
def test_bounds_are_wider_than_what_was_seen_by_the_slack_and_never_what_was_seen(
    low: float, reach: float, part: float, whole: bool
) -> None:
    low, high = (round(low), round(low + reach)) if whole else (low, low + reach)
    lower, upper = bounds(low, high, part, whole=whole)
    assert lower < low
    assert upper > high
    assert lower <= low - part * (high - low) + 1e-6 * max(1, abs(low))
    assert upper >= high + part * (high - low) - 1e-6 * max(1, abs(high))
    assert isinstance(lower, int) == whole


@pytest.mark.parametrize("write", [lambda path: None, lambda path: path.write_bytes(b"no parquet")])
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="Parquet or CSV"):
        learn(tmp_path / "rows.parquet", "rows", "training", Slack())


def test_few_rows_teach_nothing(tmp_path: Path) -> None:
    pandas.DataFrame({"age": range(10)}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match="too few to learn from"):
        learn(tmp_path / "rows.csv", "rows", "training", Slack())
