"""Captured rows are found by when they were answered, in whatever files they lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.captures import ANSWERED_AT, Captures, Window

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def write(store: Path, seconds: list[int], revision: str = "a", dropped: int = 0, **columns: list[object]) -> None:
    """Write a file of rows that were answered so many seconds after noon, the last of them when it was written."""
    moments = [NOON + timedelta(seconds=second) for second in seconds]
    table = pa.table({ANSWERED_AT: pa.array(moments, pa.timestamp("ns", "UTC")), "x": [float(second) for second in seconds], **columns})
    path = store / "captured" / "toy" / revision / f"{int(moments[-1].timestamp() * 1000):013d}-7-000001.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"convoy.dropped_since_last_file": str(dropped)}), path)


def window(store: Path, since: int, until: int, most_rows: int = 1000) -> Window:
    return Captures.at(store).window("toy", NOON + timedelta(seconds=since), NOON + timedelta(seconds=until), most_rows)


def test_a_window_holds_the_rows_of_its_time_and_its_end_is_not_in_it(tmp_path: Path) -> None:
    write(tmp_path, [1, 2, 3])
    write(tmp_path, [4, 5, 6], revision="b")
    found = window(tmp_path, 2, 6)
    assert sorted(found.rows["x"]) == [2, 3, 4, 5]
    assert (found.columns, found.files, found.since) == (("x",), 2, NOON + timedelta(seconds=2))


def test_files_that_were_written_before_the_window_are_not_even_read(tmp_path: Path) -> None:
    write(tmp_path, [1])
    (old,) = (tmp_path / "captured").rglob("*.parquet")
    old.write_bytes(b"no parquet any more")
    assert window(tmp_path, 2, 9).unreadable == ()
    assert [path.rsplit("/", 1)[-1] for path in window(tmp_path, 0, 9).unreadable] == [old.name]


def test_a_damaged_file_is_named_and_the_others_count(tmp_path: Path) -> None:
    for second in range(1, 5):
        write(tmp_path, [second])
    first, second, third, _ = sorted((tmp_path / "captured").rglob("*.parquet"))
    whole = first.read_bytes()
    first.write_bytes(whole[:4] + b"\xff" * (len(whole) // 2) + whole[4 + len(whole) // 2 :])
    pq.write_table(pa.table({"x": [1.0]}), second)
    pq.write_table(pa.table({ANSWERED_AT: ["soon"]}), third)
    found = window(tmp_path, 0, 9)
    assert found.rows["x"].tolist() == [4.0]
    assert sorted(found.unreadable) == sorted(f"captured/toy/a/{path.name}" for path in (first, second, third))


def test_of_too_many_rows_the_newest_files_count_and_it_is_said_since_when(tmp_path: Path) -> None:
    for second in range(10):
        write(tmp_path, [10 * second, 10 * second + 1])
    found = window(tmp_path, 0, 1000, most_rows=5)
    assert sorted(found.rows["x"]) == [70, 71, 80, 81, 90, 91]
    assert found.since == NOON + timedelta(seconds=70)


def test_revisions_with_other_columns_share_a_window(tmp_path: Path) -> None:
    write(tmp_path, [1], y=["a"])
    write(tmp_path, [2], revision="b", z=[True])
    found = window(tmp_path, 0, 9)
    assert set(found.columns) == {"x", "y", "z"}
    assert found.rows["y"].isna().sum() == 1


def test_dropped_answers_add_up(tmp_path: Path) -> None:
    write(tmp_path, [1], dropped=3)
    write(tmp_path, [2], dropped=4)
    assert window(tmp_path, 0, 9).dropped == 7


@pytest.mark.parametrize("name", ["1763812800000-7-000001.parquet.unfinished", "notes.parquet", "README"])
def test_other_files_are_not_looked_at(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "captured" / "toy" / "a"
    folder.mkdir(parents=True)
    (folder / name).write_text("x")
    assert window(tmp_path, -(10**9), 9).unreadable == ()


def test_a_region_that_never_answered_has_an_empty_window(tmp_path: Path) -> None:
    found = window(tmp_path / "new", 0, 9)
    assert found.rows.equals(pd.DataFrame())
    assert (found.columns, found.files) == ((), 0)
