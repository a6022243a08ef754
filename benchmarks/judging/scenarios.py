"""What is simulated: places that answer, a canary that differs from stable or does not, and the weather over both."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STEPS = (1, 5, 10, 25, 50)
MINUTES = 60
PER_MINUTE = 1000.0
ERRORS = 0.01
SLOW = 0.01
LIMIT_MS = 300


class Kind(StrEnum):
    """What a right judge does: keep an identical version, stop a harmful one."""

    IDENTICAL = "identical"
    HARMFUL = "harmful"
    BEYOND = "beyond"
    """Identical code, but not dealt out by chance alone: what no test of counts can promise to keep."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How the canary's answers differ from stable's: errors by a factor and an amount, further slow ones, moved scores."""

    errors_times: float = 1.0
    errors_plus: float = 0.0
    slow_plus: float = 0.0
    score_plus: float = 0.0


SAME = Difference()


@dataclass(frozen=True, slots=True)
class Place:
    """A region with its own edge: requests a minute, stable's share of bad answers, and what the canary does there.

    Its true share is the step's times `share_factor`.
    """

    name: str = "europe-west4"
    per_minute: float = PER_MINUTE
    errors: float = ERRORS
    canary: Difference = SAME
    share_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Weather:
    """What changes with time and meets both revisions alike, unless `apart`.

    `traffic_wave` and `errors_wave` are amplitudes (0..1) over a day that is pressed into the hour; `correlation` is
    that of the errors' level from one minute to the next (lognormal, spread 0.7); `errors_trend` is the factor by
    which errors change from begin to end. `apart` gives each revision's servers a level of their own.
    """

    traffic_wave: float = 0.0
    errors_wave: float = 0.0
    correlation: float = 0.0
    errors_trend: float = 1.0
    apart: bool = False


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Retries:
    """A caller that gets an error tries again at once on the same revision, `mean` attempts in all, each `pause_ms` later."""

    mean: float = 1.0
    pause_ms: int = 0


class Also(StrEnum):
    """What a row shows beside the judge and its peers."""

    ASSUMED_SHARE = "assumed share"
    EVERY_ATTEMPT = "every attempt"
    POWER = "power"
    LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: what happens in each of its releases. `steps` are the shares in percent, each held equally long."""

    name: str
    kind: Kind
    places: tuple[Place, ...] = (Place(),)
    steps: tuple[float, ...] = STEPS
    weather: Weather = CALM
    retries: Retries = Retries()
    pairs_share: float = 0.0
    """The share of requests that is also sent to a shadow of the canary."""
    also: frozenset[Also] = frozenset()

    @property
    def title(self) -> str:
        """What its row is called."""
        return f"{self.kind}: {self.name}"

    @property
    def errors(self) -> float:
        """Stable's usual share of bad answers over all places: what a user knows who sets a fixed limit."""
        return sum(place.errors * place.per_minute for place in self.places) / sum(place.per_minute for place in self.places)


REGIONS = ("us-east-1", "europe-west4", "southeastasia")


def three(canaries: tuple[Difference, Difference, Difference] = (SAME, SAME, SAME)) -> tuple[Place, ...]:
    """Three regions that share the usual requests and differ in nothing but what the canary does there."""
    return tuple(Place(name, PER_MINUTE / 3, canary=canary) for name, canary in zip(REGIONS, canaries, strict=True))


def alike(canary: Difference, per_minute: float = PER_MINUTE) -> tuple[Place, ...]:
    """One region where the canary differs."""
    return (Place(per_minute=per_minute, canary=canary),)


UNLIKE = (
    Place(REGIONS[0], 500.0, 0.005, share_factor=1.6),
    Place(REGIONS[1], 350.0, 0.02, share_factor=0.5),
    Place(REGIONS[2], 150.0, 0.08, share_factor=0.9),
)
"""Base rates and shares that differ: who sums them up finds harm or health that is not there (Simpson's paradox)."""

TWICE = Difference(errors_times=2.0)
BURSTS, FIXED, POWER = frozenset({Also.EVERY_ATTEMPT}), frozenset({Also.LIMITS}), frozenset({Also.POWER})

IDENTICAL = (
    Scenario("steady", Kind.IDENTICAL, also=FIXED),
    Scenario("daily wave in requests and errors", Kind.IDENTICAL, weather=Weather(traffic_wave=0.6, errors_wave=0.9), also=FIXED),
    Scenario("autocorrelated errors", Kind.IDENTICAL, weather=Weather(correlation=0.8), also=FIXED),
    Scenario("retry bursts", Kind.IDENTICAL, retries=Retries(3.0), also=BURSTS),
    Scenario("weight steps while errors fall tenfold", Kind.IDENTICAL, weather=Weather(errors_trend=0.1)),
    Scenario("weight steps while errors rise tenfold", Kind.IDENTICAL, weather=Weather(errors_trend=10.0)),
    Scenario("true share 13 %, declared 10 %", Kind.IDENTICAL, (Place(share_factor=1.3),), (10,), also=frozenset({Also.ASSUMED_SHARE})),
    Scenario("three regions, unlike base rates and shares", Kind.IDENTICAL, UNLIKE),
    Scenario("100 requests a minute", Kind.IDENTICAL, (Place(per_minute=100.0),), also=FIXED),
    Scenario("20 requests a minute", Kind.IDENTICAL, (Place(per_minute=20.0),)),
)

HARMFUL = (
    Scenario("errors x1.5", Kind.HARMFUL, alike(Difference(errors_times=1.5))),
    Scenario("errors x2", Kind.HARMFUL, alike(TWICE), pairs_share=0.05, also=POWER | FIXED),
    Scenario("errors x2, three regions", Kind.HARMFUL, three((TWICE, TWICE, TWICE)), pairs_share=0.05, also=POWER),
    Scenario("errors x3", Kind.HARMFUL, alike(Difference(errors_times=3.0))),
    Scenario("errors x2, 100 requests a minute", Kind.HARMFUL, alike(TWICE, 100.0), also=FIXED),
    Scenario("errors x2, 20 requests a minute", Kind.HARMFUL, alike(TWICE, 20.0)),
    Scenario("errors x3 in one of three regions", Kind.HARMFUL, three((SAME, Difference(errors_times=3.0), SAME))),
    Scenario("slower tail, 1 % to 3 % above the limit", Kind.HARMFUL, alike(Difference(slow_plus=0.02))),
    Scenario("rare errors from zero, 0.3 %", Kind.HARMFUL, (Place(errors=0.0, canary=Difference(errors_plus=0.003)),)),
    Scenario("prediction shift, mean 0.29 to 0.35", Kind.HARMFUL, alike(Difference(score_plus=0.06))),
)

BEYOND = (
    Scenario("each revision's servers with weather of their own", Kind.BEYOND, weather=Weather(correlation=0.8, apart=True)),
    Scenario("retry bursts, a second between attempts", Kind.BEYOND, retries=Retries(3.0, pause_ms=1000), also=BURSTS),
)

ALL = (*IDENTICAL, *HARMFUL, *BEYOND)
