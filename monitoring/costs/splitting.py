"""Splits a bill by model, region and kind of traffic, so that the parts sum to the whole to the last digit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, Inexact, localcontext
from typing import TYPE_CHECKING

from fleet.errors import IntegrityError
from monitoring.costs.focus import ControlTotal

if TYPE_CHECKING:
    import duckdb

UNATTRIBUTED = "unattributed"
"""The model, region or traffic of what carries no such tag: a line of its own, never spread over the others."""
PREDICTION = "prediction"
"""The SKU whose consumed quantity counts predictions."""

QUERY = f"""
SELECT currency, coalesce(json_extract_string(tags, '$.model'), '{UNATTRIBUTED}') AS model, coalesce(region, '{UNATTRIBUTED}') AS place,
    coalesce(json_extract_string(tags, '$.traffic'), '{UNATTRIBUTED}') AS traffic,
    count(*), sum(billed), coalesce(sum(consumed) FILTER (sku = '{PREDICTION}'), 0)
FROM charges GROUP BY ALL ORDER BY ALL"""  # noqa: S608 - made of the constants above alone


@dataclass(frozen=True, slots=True)
class Part:
    """What one kind of a model's traffic cost in a region: rows of the bill, their sum, and the predictions they gave."""

    currency: str
    model: str
    region: str
    traffic: str
    rows: int
    billed: Decimal
    predictions: Decimal

    @property
    def place(self) -> tuple[str, str, str]:
        """Currency, model and region."""
        return self.currency, self.model, self.region


@contextmanager
def exactly() -> Iterator[None]:
    """Do decimal sums that raise (`decimal.Inexact`) rather than round."""
    with localcontext(prec=60) as context:
        context.traps[Inexact] = True
        yield


def parts_of(database: duckdb.DuckDBPyConnection) -> tuple[Part, ...]:
    """Return the parts of all charges."""
    return tuple(Part(*row) for row in database.execute(QUERY).fetchall())


def check_sums(parts: Iterable[Part], totals: Iterable[ControlTotal]) -> None:
    """Raise IntegrityError unless the parts hold every row and sum to the bill, per currency and to the last digit."""
    of_parts, of_bill = _sums((p.currency, p.rows, p.billed) for p in parts), _sums((t.currency, t.rows, t.billed) for t in totals)
    for currency in sorted(of_parts.keys() | of_bill.keys()):
        if of_parts.get(currency) != of_bill.get(currency):
            found, wanted = of_parts.get(currency, (0, 0)), of_bill.get(currency, (0, 0))
            raise IntegrityError(
                f"bill in {currency}",
                f"its parts come to {found[1]} in {found[0]} rows, the whole is {wanted[1]} in {wanted[0]}",
                "Nothing was recorded; keep the bill and report it.",
            )


def costs_by_place(parts: Iterable[Part]) -> dict[tuple[str, str, str], tuple[Decimal, Decimal]]:
    """Return cost and predictions of each currency, model and region, over all its traffic."""
    found: dict[tuple[str, str, str], tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(0), Decimal(0)))
    with exactly():
        for part in parts:
            cost, predictions = found[part.place]
            found[part.place] = (cost + part.billed, predictions + part.predictions)
    return dict(found)


def per_thousand(cost: Decimal, predictions: Decimal) -> Decimal | None:
    """Return the cost of a thousand predictions, rounded to nine decimals; None without any prediction."""
    if predictions <= 0:
        return None
    with localcontext(prec=60):
        return (1000 * cost / predictions).quantize(Decimal("1e-9"))


def _sums(rows: Iterable[tuple[str, int, Decimal]]) -> Mapping[str, tuple[int, Decimal]]:
    found: dict[str, tuple[int, Decimal]] = {}
    with exactly():
        for currency, count, billed in rows:
            rows_before, sum_before = found.get(currency, (0, Decimal(0)))
            found[currency] = (rows_before + count, sum_before + billed)
    return found
