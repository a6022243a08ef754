"""How the requests to a model are dealt out: the key `traffic` of a model in fleet.yaml. Without it nothing here holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fleet.declaring import Declared
from fleet.headers import unfit

MOST_WAITING = 5
"""What waits is answered within the route's timeout of six times the SLO's limit, if what goes before it keeps the limit."""


def _fit(name: str) -> str:
    """Refuse a header that a model's rules may not use."""
    if why := unfit(name):
        raise ValueError(why)
    return name


HeaderName = Annotated[str, AfterValidator(_fit)]
CookieName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Mark = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
Jurisdiction = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Weighing = Annotated[float, Field(ge=0, le=1000)]


class StickyBy(Declared):
    """By what a caller is known again: a header, or a cookie that the caller has already."""

    header: HeaderName | None = None
    cookie: CookieName | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.header is None) == (self.cookie is None):
            raise ValueError("needs a header or a cookie, and not both")
        return self


class ShadowPlan(Declared):
    """How a new revision answers copies first: of so many of stable's requests in a hundred, for `seconds` at most.

    With `answers` it ends as soon as there are so many. What is seen then decides: evidence of harm rolls back.
    """

    percent: Annotated[int, Field(ge=1, le=100)] = 100
    seconds: Seconds
    answers: Count | None = None


class ResidencyRules(Declared):
    """Where requests may be answered: `marks` names the jurisdictions behind each mark that callers may send.

    `unmarked` is the mark of requests that carry none; without it they may be answered anywhere.
    """

    marks: Annotated[dict[Mark, Annotated[tuple[Jurisdiction, ...], Field(min_length=1)]], Field(min_length=1)]
    unmarked: Mark | None = None

    @model_validator(mode="after")
    def _unmarked_is_known(self) -> Self:
        if self.unmarked is not None and self.unmarked not in self.marks:
            raise ValueError(f"unmarked is '{self.unmarked}', which is none of the marks {', '.join(self.marks)}")
        return self

    def regions(self, mark: str, jurisdictions: Mapping[str, str]) -> tuple[str, ...]:
        """Return which of some regions, given with their jurisdictions, a mark allows."""
        return tuple(region for region, jurisdiction in jurisdictions.items() if jurisdiction in self.marks[mark])


class RequestLimits(Declared):
    """What an edge lets one revision in one region answer at a time, and what may wait meanwhile (as many again).

    One more is refused with 503 at once.
    """

    requests: Count
    pending: Count | None = None

    @model_validator(mode="after")
    def _what_waits_is_answered_in_time(self) -> Self:
        if self.pending is not None and self.pending > MOST_WAITING * self.requests:
            most = MOST_WAITING * self.requests
            raise ValueError(f"pending must be {most} at most ({MOST_WAITING} times requests): what waits longer is cut off by its timeout")
        return self


class RegionChoice(Declared):
    """How an edge chooses among a model's regions from what it measures itself; without it an edge keeps to its own region.

    `latency` (in parts of the SLO's limit), `load` (in parts of `limits.requests`) and `price` (in parts of the dearest
    region's) weigh as much as they say, one against another. A region loses its requests once it was worse than the best
    by `hysteresis`, a part of the whole, for `seconds` on end. It is taken back, slowly, once it was not for
    `return_seconds`. It keeps `floor_percent` of the requests, so that this is seen.
    """

    latency: Weighing = 2
    load: Weighing = 1
    price: Weighing = 0
    hysteresis: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seconds: Annotated[float, Field(ge=1, le=60)] = 3
    return_seconds: Annotated[float, Field(ge=1, le=600)] = 10
    floor_percent: Annotated[int, Field(ge=1, le=10)] = 2

    @model_validator(mode="after")
    def _something_weighs(self) -> Self:
        if not any((self.latency, self.load, self.price)):
            raise ValueError("latency, load and price must not all be 0: nothing would choose")
        return self


class Traffic(Declared):
    """How a model's requests are dealt out, and how a new revision gets them.

    `mode` canary raises its share in steps, blue-green switches all at once. During `bake_seconds` the revision has
    everything and the one before stays warm to take it back. `pin_header` lets callers choose a revision.
    """

    mode: Literal["canary", "blue-green"] = "canary"
    bake_seconds: Seconds | None = None
    pin_header: HeaderName | None = None
    sticky: StickyBy | None = None
    shadow: ShadowPlan | None = None
    residency: ResidencyRules | None = None
    limits: RequestLimits | None = None
    choice: RegionChoice | None = None

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> Self:
        if self.mode == "blue-green" and self.bake_seconds is None:
            raise ValueError("blue-green needs bake_seconds: while it bakes is the only time in which it is judged")
        if self.mode == "blue-green" and self.sticky is not None:
            raise ValueError("sticky keeps callers on one side of a split, and blue-green never splits them")
        if self.sticky is not None and self.pin_header is not None and self.sticky.header == self.pin_header:
            raise ValueError(f"'{self.pin_header}' cannot be pin_header and sticky at once: a pinned request has chosen its revision")
        if self.choice is not None and self.limits is None and not (self.choice.latency or self.choice.price):
            raise ValueError("choice weighs load alone, which is measured against limits: declare limits.requests")
        return self


def residency_problems(residency: ResidencyRules, own: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return what is wrong with a model's residency, given the jurisdictions of its own regions and of all of the fleet."""
    everywhere = sorted(set(known))
    problems = []
    for mark, jurisdictions in residency.marks.items():
        unknown = [jurisdiction for jurisdiction in jurisdictions if jurisdiction not in everywhere]
        if unknown:
            problems.append(f"marks.{mark} names {', '.join(unknown)}, where no region is (known: {', '.join(everywhere)})")
        elif not residency.regions(mark, own):
            where = ", ".join(f"{region} in {jurisdiction}" for region, jurisdiction in own.items())
            problems.append(f"marks.{mark} leaves the model no region (it has {where})")
    return problems
