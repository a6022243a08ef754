"""Changing weights on a machine so busy that a table runs out before an edge has taken it."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from fleet.errors import TooLate
from flows import routing


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tables that were sent, each by its number; the edge takes the third."""
    numbers, tables = itertools.count(1), list[int]()

    def taken(_house: object, table: int) -> tuple[str, ...]:
        tables.append(table)
        if len(tables) < 3:
            raise TooLate(f"table {table}", "has expired already")
        return (f"table {table}",)

    monkeypatch.setattr(routing, "_table", lambda *_: next(numbers))
    monkeypatch.setattr(routing, "apply", taken)
    return tables


def test_a_table_that_ran_out_on_its_way_is_made_anew(sent: list[int]) -> None:
    assert routing.set_weight(SimpleNamespace(house=None), None, None, 5) == ("table 3",)
    assert sent == [1, 2, 3]


def test_tables_that_run_out_again_and_again_are_an_error_that_is_tried_later(sent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "TRIES_IN_TIME", 2)
    with pytest.raises(TooLate):
        routing.set_weight(SimpleNamespace(house=None), None, None, 5)
    assert sent == [1, 2]
