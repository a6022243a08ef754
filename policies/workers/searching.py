"""A bounded search for the smallest change of numbers that turns a decision, from the answers alone.

Coordinates are tried in a random order, each at both ends of what it may move by, and the end is kept that brings the answer
nearer to another decision: SimBA's greedy coordinate search (Guo and others, ICML 2019) with the full steps that decide most
often (Andriushchenko and others, Square Attack, ECCV 2020). Where it turns, the line back to the row is halved, as HopSkipJump
(Chen, Jordan and Wainwright, IEEE S&P 2020) approaches a boundary. All rows go on together, one request a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from policies.workers.disturbed import Searched
from policies.workers.disturbing import Column, Row, Scene

HALVINGS = 6
Margins = Callable[[Sequence[Row], Any], Any]
"""Rows and which of the searched rows each of them comes from, to how far their answers are from deciding otherwise."""


class Stopped(Exception):
    """The search cannot go on: a request was not answered."""


class Search:
    """One search over rows; `moved` are the columns that may move, with the amounts."""

    def __init__(self, found: Scene, amounts: dict[str, float], most: int, ask: Margins) -> None:
        by_name = {column.name: column for column in found.columns}
        self._columns: list[Column] = [by_name[name] for name in amounts]
        self._amounts = amounts
        self._rows = found.rows
        self._ask = ask
        self._left = most
        # In parts of what may be moved: -1 to 1 a column
        self._offsets = np.zeros((len(found.rows), len(self._columns)))
        self._margins = np.full(len(found.rows), np.inf)

    def run(self, random: np.random.Generator) -> Searched:
        """Search until every row is turned or all its columns were tried, or the predictions are spent."""
        most = self._left
        orders = np.array([random.permutation(len(self._columns)) for _ in self._rows])
        problem = ""
        try:
            for turn in range(len(self._columns)):
                still = np.flatnonzero(self._margins >= 0)
                if 2 * len(still) > self._left or not len(still):
                    break
                self._step(still, orders[still, turn])
            distances = self._distances()
        except Stopped as stopped:
            problem, distances = str(stopped), ()
        turned = int((self._margins < 0).sum())
        return Searched(len(self._rows), turned, most - self._left, distances, tuple(self._amounts), problem)

    def _step(self, still: Any, columns: Any) -> None:
        """Try one column of each row at both of its ends, and keep what comes nearer to another decision."""
        lines = np.arange(len(still))
        tried = np.repeat(self._offsets[still][None], 2, axis=0)
        tried[0, lines, columns], tried[1, lines, columns] = -1.0, 1.0
        margins = self._margins_at(np.concatenate((still, still)), tried.reshape(2 * len(still), -1)).reshape(2, -1)
        best = margins.argmin(axis=0)
        nearer = margins[best, lines] < self._margins[still]
        self._offsets[still[nearer]] = tried[best[nearer], lines[nearer]]
        self._margins[still[nearer]] = margins[best[nearer], lines[nearer]]

    def _distances(self) -> tuple[float, ...]:
        """Return the part of each turned row's way that turns it, halved as long as predictions are left."""
        turned = np.flatnonzero(self._margins < 0)
        low, high = np.zeros(len(turned)), np.ones(len(turned))
        for _ in range(HALVINGS if len(turned) else 0):
            if len(turned) > self._left:
                break
            middle = (low + high) / 2
            beyond = self._margins_at(turned, self._offsets[turned] * middle[:, None]) < 0
            high, low = np.where(beyond, middle, high), np.where(beyond, low, middle)
        return tuple(float(one) for one in high)

    def _margins_at(self, origins: Any, offsets: Any) -> Any:
        self._left -= len(origins)
        return self._ask([self._moved(self._rows[origin], offset) for origin, offset in zip(origins, offsets, strict=True)], origins)

    def _moved(self, row: Row, offset: Any) -> Row:
        moved = {}
        for column, part in zip(self._columns, offset, strict=True):
            if part and row[column.name] is not None:
                moved[column.name] = column.at(row[column.name] + part * self._amounts[column.name])
        return row | moved
