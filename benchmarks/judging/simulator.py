"""One simulated release: every attempt with its time, duration, caller, revision, outcome and score.

Requests arrive by chance (Poisson), one by one, and each is dealt to the canary with the step's true share. Nothing
here counts: that is the shipped fold's work, and `counting`'s beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm

from benchmarks.judging.scenarios import LIMIT_MS, MINUTES, SLOW, Place, Retries, Scenario, Weather

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]

SECONDS = MINUTES * 60
CALLERS = 500
MILLION = 1_000_000
PAIRS_DISAGREE = 0.005
_GRID = 4096
_SPREAD = 0.4
"""Of the durations' logarithm: with one answer in a hundred above 300 ms, the median is 118 ms and one in 6000 takes more than 500 ms."""
_LEVEL = 0.7
_SCORES = (2.0, 5.0)
_DAYS_IN_RELEASE = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """All attempts at one edge, in the order in which they ended; times in milliseconds since the release began.

    `score` is in millionths, -1 where the answer carries none. `shadow_ms` is how long a shadow of the canary took for
    stable's request, -1 where none was asked; it answered otherwise where `disagreed`.
    """

    place: Place
    start_ms: Ints
    took_ms: Ints
    caller: Ints
    canary: Flags
    bad: Flags
    broken: Flags
    score: Ints
    shadow_ms: Ints
    disagreed: Flags

    def __len__(self) -> int:
        return len(self.start_ms)

    @property
    def end_ms(self) -> Ints:
        """When each attempt ended: the moment at which it is counted."""
        return self.start_ms + self.took_ms


def simulate(scenario: Scenario, seed: int) -> tuple[Traffic, ...]:
    """Return one release's attempts, edge by edge; the same for the same seed, and others in each row."""
    rng = np.random.default_rng((seed, crc32(scenario.title.encode())))
    return tuple(_at(scenario, place, rng) for place in scenario.places)


def shares(scenario: Scenario, place: Place) -> Floats:
    """Return the canary's true share in each second."""
    held = np.repeat(np.array(scenario.steps) / 100, -(-SECONDS // len(scenario.steps)))[:SECONDS]
    return np.asarray(held * place.share_factor, dtype=np.float64)


def _at(scenario: Scenario, place: Place, rng: np.random.Generator) -> Traffic:
    weather = scenario.weather
    phase = 2 * np.pi * (rng.random() + _DAYS_IN_RELEASE * np.arange(SECONDS) / SECONDS)
    requests = rng.poisson(place.per_minute / 60 * (1 + weather.traffic_wave * np.sin(phase)))
    second = np.repeat(np.arange(SECONDS), requests)
    size = len(second)
    canary = rng.random(size) < shares(scenario, place)[second]
    level = _levels(weather, phase, rng)
    bad = rng.random(size) < _bad_rates(place, canary, level[canary.astype(np.int64), second])
    start = second * 1000 + rng.integers(0, 1000, size)
    took = _durations()[rng.integers(0, _GRID, size)]
    slower = canary & (rng.random(size) < place.canary.slow_plus) if place.canary.slow_plus else np.zeros(size, dtype=np.bool_)
    took = np.where(slower, np.maximum(took, rng.integers(LIMIT_MS + 100, 1500, size)), took)
    pick = rng.integers(0, _GRID, size)
    score = np.where(canary, _scores(place.canary.score_plus)[pick], _scores(0.0)[pick])
    mirrored = (rng.random(size) < scenario.pairs_share) & ~canary
    shadow = np.where(mirrored, _durations()[rng.integers(0, _GRID, size)], -1)
    found = _Drawn(start, took, rng.integers(0, CALLERS, size), canary, bad, score, shadow)
    return _as_traffic(place, _with_retries(found, scenario.retries, rng), rng)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What was drawn, one column each, before retries and in no order."""

    start: Ints
    took: Ints
    caller: Ints
    canary: Flags
    bad: Flags
    score: Ints
    shadow: Ints


def _levels(weather: Weather, phase: Floats, rng: np.random.Generator) -> Floats:
    """Return by how much errors are above their usual rate: one row for stable, one for the canary, a column per second."""
    common = (1 + weather.errors_wave * np.sin(phase + 1)) * _trend(weather.errors_trend)
    stable = _autocorrelated(weather.correlation, rng)
    canary = _autocorrelated(weather.correlation, rng) if weather.apart else stable
    return np.stack([common * stable, common * canary])


def _trend(factor: float) -> Floats:
    return np.geomspace(factor**-0.5, factor**0.5, SECONDS)


def _autocorrelated(correlation: float, rng: np.random.Generator) -> Floats:
    """Return a lognormal level with mean 1 that changes from minute to minute (AR(1))."""
    if not correlation:
        return np.ones(SECONDS)
    steps = rng.normal(0, 1, MINUTES)
    level = np.empty(MINUTES)
    last = steps[0]
    for minute, step in enumerate(steps):
        last = level[minute] = correlation * last + np.sqrt(1 - correlation**2) * step if minute else step
    return np.repeat(np.exp(_LEVEL * level - _LEVEL**2 / 2), 60)


def _bad_rates(place: Place, canary: Flags, level: Floats) -> Floats:
    differs = place.errors * place.canary.errors_times + place.canary.errors_plus
    return np.minimum(np.where(canary, differs, place.errors) * level, 0.95)


def _with_retries(drawn: _Drawn, retries: Retries, rng: np.random.Generator) -> _Drawn:
    """Let each bad answer's caller try again, in vain, at the revision that answered."""
    if retries.mean <= 1:
        return drawn
    failed = np.flatnonzero(drawn.bad)
    again = rng.geometric(1 / retries.mean, len(failed)) - 1
    origin = np.repeat(failed, again)
    number = np.arange(len(origin)) - np.repeat(np.cumsum(again) - again, again) + 1
    # A failing attempt is over soon; then comes the next
    took = np.full(len(origin), 15, dtype=np.int64)
    start = drawn.start[origin] + drawn.took[origin] + number * (retries.pause_ms + 5) + (number - 1) * 15
    columns = (
        (drawn.start, start),
        (drawn.took, took),
        (drawn.caller, drawn.caller[origin]),
        (drawn.canary, drawn.canary[origin]),
        (drawn.bad, drawn.bad[origin]),
        (drawn.score, drawn.score[origin]),
        (drawn.shadow, np.full(len(origin), -1, dtype=np.int64)),
    )
    return _Drawn(*(np.concatenate(pair) for pair in columns))


def _as_traffic(place: Place, drawn: _Drawn, rng: np.random.Generator) -> Traffic:
    order = np.argsort(drawn.start + drawn.took, kind="stable")
    bad = drawn.bad[order]
    # One bad answer in ten is a connection that was closed, the others are answers of 503
    broken = bad & (rng.random(len(bad)) < 0.1)
    score = np.where(bad, -1, drawn.score[order])
    shadow = np.where(bad, -1, drawn.shadow[order])
    disagreed = (shadow >= 0) & (rng.random(len(bad)) < PAIRS_DISAGREE)
    start, took, caller, canary = drawn.start[order], drawn.took[order], drawn.caller[order], drawn.canary[order]
    return Traffic(place, start, took, caller, canary, bad, broken, score, shadow, disagreed)


@cache
def _durations() -> Ints:
    """Return equally probable durations in milliseconds, `SLOW` of them above the limit."""
    quantiles = (np.arange(_GRID) + 0.5) / _GRID
    log = np.log(LIMIT_MS) + _SPREAD * (norm.ppf(quantiles) - norm.ppf(1 - SLOW))
    return np.asarray(np.rint(np.exp(log)), dtype=np.int64)


@cache
def _scores(plus: float) -> Ints:
    """Return equally probable scores in millionths, their mean `plus` above the usual 2/7."""
    total = sum(_SCORES)
    mean = _SCORES[0] / total + plus
    quantiles = (np.arange(_GRID) + 0.5) / _GRID
    return np.asarray(np.rint(beta.ppf(quantiles, mean * total, (1 - mean) * total) * MILLION), dtype=np.int64)
