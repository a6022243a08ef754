"""Reconciles bills: totals and digests, parts that sum to them, and what deviates from the forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.errors import InputError, IntegrityError
from monitoring.costs.deviations import Comparison, Place, Rate, compare
from monitoring.costs.focus import ControlTotal, charges, control_totals
from monitoring.costs.splitting import Part, check_sums, costs_by_place, parts_of


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What some bills came to; `begins` and `ends` (UTC) bound what was measured or charged."""

    begins: datetime
    ends: datetime
    totals: tuple[ControlTotal, ...]
    parts: tuple[Part, ...]
    comparisons: tuple[Comparison, ...]
    threshold: Decimal

    @property
    def length(self) -> timedelta:
        """How long the period is."""
        return self.ends - self.begins

    @property
    def deviations(self) -> tuple[Comparison, ...]:
        """What lies outside its forecast by more than the threshold."""
        return tuple(found for found in self.comparisons if found.deviates)

    @property
    def costs(self) -> dict[Place, tuple[Decimal, Decimal]]:
        """Cost and predictions of each currency, model and region."""
        return costs_by_place(self.parts)


def reconcile(
    files: Sequence[Path], expected: Mapping[Place, Rate], threshold: Decimal, charged: tuple[datetime, datetime] | None = None
) -> Reconciliation:
    """Read bills and return what they came to; `expected` says what each place should cost a day.

    `charged` (begin and end in UTC) is the period of bills in which no charge stands; without it they are refused.
    Raises InputError for a bill that cannot be read exactly, IntegrityError when the parts do not sum to the whole.
    """
    with charges(files) as database:
        totals, parts = control_totals(database), parts_of(database)
        bounds = database.execute("SELECT min(begins), max(ends) FROM charges").fetchone()
    if bounds is None or bounds[0] is None:
        if charged is None:
            raise InputError(", ".join(map(str, files)), "no charge stands in it", "Nothing was reconciled.")
        bounds = charged
    check_sums(parts, totals)
    begins, ends = (moment.replace(tzinfo=UTC) for moment in bounds)
    costs = {place: cost for place, (cost, _) in costs_by_place(parts).items()}
    return Reconciliation(begins, ends, totals, parts, compare(costs, expected, ends - begins, threshold), threshold)


class PublishedTotal(BaseModel):
    """One period's totals as somebody else published them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    billing_period: str
    currency: str
    rows: int
    billed_cost: Decimal
    effective_cost: Decimal
    row_digest: str | None = None


class PublishedTotals(BaseModel):
    """Control totals of a bill: `{"by_period": [...]}`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    by_period: tuple[PublishedTotal, ...]


def read_published(file: Path) -> PublishedTotals:
    """Return the control totals that a JSON file publishes; raises InputError."""
    try:
        return PublishedTotals.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as problem:
        said: Any = problem.errors()[0] if isinstance(problem, ValidationError) else problem
        raise InputError(str(file), f"holds no control totals ({said})", "Give JSON with by_period.") from problem


def check_published(found: Sequence[ControlTotal], published: PublishedTotals) -> None:
    """Raise IntegrityError, naming period and figure, unless a bill has exactly the published totals and row digests."""
    ours = {(total.period, total.currency): total for total in found}
    theirs = {(total.billing_period, total.currency): total for total in published.by_period}
    for place in sorted(ours.keys() | theirs.keys()):
        total, wanted = ours.get(place), theirs.get(place)
        if total is None or wanted is None:
            raise IntegrityError(
                f"billing period {place[0]} in {place[1]}", f"stands only in the {'published totals' if wanted else 'bill'}"
            )
        figures = {
            "rows": (total.rows, wanted.rows),
            "billed cost": (total.billed, wanted.billed_cost),
            "effective cost": (total.effective, wanted.effective_cost),
            "row digest": (total.row_digest, wanted.row_digest or total.row_digest),
        }
        for name, (is_, should) in figures.items():
            if is_ != should:
                raise IntegrityError(f"billing period {place[0]} in {place[1]}", f"its {name} is {is_}, published is {should}")
