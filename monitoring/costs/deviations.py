"""Compares costs with what was expected: every deviation is told, in either direction, and no forecast is no pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal, localcontext
from enum import StrEnum

Place = tuple[str, str, str]
"""Currency, model and region."""
ALL = "all"
"""The model and region of a currency's total."""
WINDOW = 7
"""How many earlier periods the mean is taken over."""
DAY = timedelta(days=1)


class Outcome(StrEnum):
    """How a cost compares with its forecast."""

    WITHIN = "within"
    ABOVE = "above"
    BELOW = "below"
    NO_FORECAST = "no forecast"


@dataclass(frozen=True, slots=True)
class Rate:
    """What something is expected to cost a day, and where that comes from."""

    per_day: Decimal
    source: str


@dataclass(frozen=True, slots=True)
class Period:
    """What one earlier reconciled period cost, place by place."""

    length: timedelta
    costs: Mapping[Place, Decimal]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cost beside its forecast; `difference` is cost less forecast, `share` that difference as a part of the forecast."""

    place: Place
    cost: Decimal
    forecast: Decimal | None
    difference: Decimal | None
    share: Decimal | None
    outcome: Outcome
    reason: str

    @property
    def deviates(self) -> bool:
        """Whether it lies outside."""
        return self.outcome in (Outcome.ABOVE, Outcome.BELOW)


def rates(declared: Mapping[Place, Decimal], earlier: Sequence[Period]) -> dict[Place, Rate]:
    """Return what each place is expected to cost a day: as declared, else the mean over the last seven earlier periods.

    The window average: their sum of costs over their sum of lengths, a period without the place counting as no cost.
    """
    window = earlier[-WINDOW:]
    length = sum((period.length for period in window), timedelta())
    known = {place for period in window for place in period.costs} if length else set()
    with localcontext(prec=40):
        days = Decimal(length // timedelta(microseconds=1)) / Decimal(DAY // timedelta(microseconds=1))
        means = {place: sum((p.costs.get(place, Decimal(0)) for p in window), Decimal(0)) / days for place in known}
    found = {place: Rate(mean, f"the mean of the last {len(window)} periods") for place, mean in means.items()}
    return {**found, **{place: Rate(amount, "fleet.yaml") for place, amount in declared.items()}}


def compare(
    costs: Mapping[Place, Decimal], expected: Mapping[Place, Rate], length: timedelta, threshold: Decimal
) -> tuple[Comparison, ...]:
    """Return every place with a cost or a forecast compared, then each currency's total.

    Forecasts are for `length`, rounded to twelve decimals. A total has a forecast only where all its places have one.
    """
    with localcontext(prec=60):
        return tuple(_comparisons(costs, expected, length, threshold))


def _comparisons(
    costs: Mapping[Place, Decimal], expected: Mapping[Place, Rate], length: timedelta, threshold: Decimal
) -> Iterator[Comparison]:
    places = sorted(costs.keys() | expected.keys())
    forecasts = {place: _for(expected[place], length) for place in places if place in expected}
    for place in places:
        yield _compared(place, costs.get(place, Decimal(0)), forecasts.get(place), threshold)
    for currency in sorted({place[0] for place in places}):
        inside = [place for place in places if place[0] == currency]
        cost = _sum(costs.get(place, Decimal(0)) for place in inside)
        forecast = _sum(forecasts[place] for place in inside) if all(place in forecasts for place in inside) else None
        yield _compared((currency, ALL, ALL), cost, forecast, threshold)


def _for(rate: Rate, length: timedelta) -> Decimal:
    with localcontext(prec=40):
        part = Decimal(length // timedelta(microseconds=1)) / Decimal(DAY // timedelta(microseconds=1))
        return (rate.per_day * part).quantize(Decimal("1e-12"))


def _compared(place: Place, cost: Decimal, forecast: Decimal | None, threshold: Decimal) -> Comparison:
    if forecast is None:
        return Comparison(place, cost, None, None, None, Outcome.NO_FORECAST, f"{plain(cost)} {place[0]}, and nothing says what to expect")
    difference = cost - forecast
    beyond = Outcome.ABOVE if difference > 0 else Outcome.BELOW
    outcome = Outcome.WITHIN if abs(difference) <= threshold * forecast else beyond
    share = (difference / forecast).quantize(Decimal("0.0001")) if forecast else None
    percent = f"{share:+.2%}" if share is not None else "nothing was expected"
    reason = f"{plain(cost)} {place[0]}, {plain(forecast)} expected: {plain(difference)} ({percent}, {threshold:.1%} is allowed)"
    return Comparison(place, cost, forecast, difference, share, outcome, reason)


def plain(amount: Decimal) -> str:
    """Return an amount with all of its digits and no zeros behind them."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
