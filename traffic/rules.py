"""What a routing table lets callers ask for and holds them to: pins, stickiness, shadows, residency, limits, the choice of region.

Each is off by default; traffic/lanes.py says which clusters follow, traffic/routes.py which routes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ConfigDict

from fleet.headers import unfit

MARK: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
STRICT: Final = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Sticky:
    """What tells one caller from another: the value of a header, or of a cookie that the caller has already."""

    kind: Literal["header", "cookie"]
    name: str

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Residency:
    """The regions that may answer a request with this mark."""

    mark: str
    regions: tuple[str, ...]

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Limits:
    """The requests that an edge lets one revision in one region answer at a time, and those that may wait meanwhile."""

    requests: int
    pending: int

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Shadow:
    """A revision that answers copies of stable's requests, so many in a hundred; nobody sees its answers."""

    revision: str
    percent: int

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Price:
    """What a request costs in a region, in thousandths of what it costs in the dearest one."""

    region: str
    thousandths: int

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Choice:
    """How an edge chooses among a model's regions: what weighs how much, and what keeps it from wavering.

    A region is left once it was worse than the cheapest by `hysteresis` for `seconds` on end, and taken back after it
    was not for `return_seconds`; `floor_percent` of the requests it keeps.
    """

    latency: float
    load: float
    price: float
    hysteresis: float
    seconds: float
    return_seconds: float
    floor_percent: int
    prices: tuple[Price, ...] = ()

    __pydantic_config__ = STRICT

    def price_of(self, region: str) -> float:
        """Return a region's price in parts of the dearest one's."""
        return next((price.thousandths for price in self.prices if price.region == region), 0) / 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all requests to a model, whatever revisions there are.

    `pin_header` names the header by which a caller chooses a revision. `unmarked` is the mark of requests that carry
    none; without it they may be answered anywhere.
    """

    pin_header: str | None = None
    sticky: Sticky | None = None
    residency: tuple[Residency, ...] = ()
    unmarked: str | None = None
    limits: Limits | None = None
    choice: Choice | None = None

    __pydantic_config__ = STRICT


NO_RULES: Final = Rules()


def rule_problems(rules: Rules) -> Iterable[str]:
    """Return what is inconsistent about rules, in words."""
    if rules.pin_header is not None and (why := unfit(rules.pin_header)):
        yield f"pin_header {why}"
    if rules.sticky is not None:
        yield from _sticky_problems(rules.sticky, rules.pin_header)
    marks = [residency.mark for residency in rules.residency]
    if len(set(marks)) != len(marks):
        yield "residency names a mark twice"
    for residency in rules.residency:
        if not MARK.fullmatch(residency.mark):
            yield f"residency mark '{residency.mark}' must match {MARK.pattern}"
        if not residency.regions or len(set(residency.regions)) != len(residency.regions):
            yield f"residency '{residency.mark}' must name regions, each once"
    if rules.unmarked is not None and rules.unmarked not in marks:
        yield f"unmarked requests have the residency '{rules.unmarked}', which is none of {', '.join(marks) or 'no marks'}"
    if rules.limits is not None and (rules.limits.requests < 1 or rules.limits.pending < 1):
        yield "limits must be 1 or more"
    if rules.choice is not None:
        yield from _choice_problems(rules.choice, weighs_load=rules.limits is not None)


def _sticky_problems(sticky: Sticky, pin_header: str | None) -> Iterable[str]:
    if sticky.kind == "cookie":
        if not COOKIE.fullmatch(sticky.name):
            yield f"sticky cookie '{sticky.name}' must match {COOKIE.pattern}"
        return
    if why := unfit(sticky.name):
        yield f"sticky header {why}"
    if sticky.name == pin_header:
        yield f"sticky header '{sticky.name}' is the pin_header too: a pinned request has chosen its revision"


def _choice_problems(choice: Choice, weighs_load: bool) -> Iterable[str]:
    weights = (choice.latency, choice.load, choice.price)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        yield "choice must have weights of 0 or more"
    elif not (choice.latency or choice.price or (choice.load and weighs_load)):
        yield "choice weighs nothing that is known"
    if not all(0 < number < math.inf for number in (choice.hysteresis, choice.seconds, choice.return_seconds)):
        yield "choice must have hysteresis, seconds and return_seconds above 0"
    if not 1 <= choice.floor_percent <= 100:
        yield f"choice must have a floor of 1 to 100 percent (found {choice.floor_percent})"
    if any(not 0 <= price.thousandths <= 1000 for price in choice.prices):
        yield "choice must have prices of 0 to 1000 thousandths"
