"""Releases judged by everyone: the same attempts, and how each rule ended them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from benchmarks.judging import convoy, oracle, peers
from benchmarks.judging.chain import BEGIN
from benchmarks.judging.convoy import Counted
from benchmarks.judging.counting import FIELDS, canary_exposure
from benchmarks.judging.kayenta import kayenta
from benchmarks.judging.minutes import ByMinute, by_minute
from benchmarks.judging.scenarios import Also, Scenario
from benchmarks.judging.simulator import SECONDS, Floats, shares, simulate
from fleet.evidence import Outcome
from monitoring.conviction import Evidence
from monitoring.criteria import Criteria
from monitoring.replay import Decided

CONVOY: Final = "Convoy"
ERRORS_ONLY: Final = "Convoy, errors only"
FLAGGER: Final = "Flagger's rule"
ARGO: Final = "Argo Rollouts' rule"
KAYENTA: Final = "Kayenta's rule"
ORACLE: Final = "oracle: Wald's test of the true difference"
ASSUMED: Final = "trap: Convoy's test on the declared share"
EVERY_ATTEMPT: Final = "trap: Convoy's test on every attempt"
WORKERS: Final = os.cpu_count() or 1
_BAD: Final = FIELDS.index("bad")


@dataclass(frozen=True, slots=True)
class Limit:
    """A fixed limit of a peer: so many times the usual errors, looked at so often, so many failures."""

    rule: str
    headroom: float
    every: int
    enough: int

    @property
    def name(self) -> str:
        """The subject of its row."""
        return f"{self.rule}, {self.headroom:g} times the usual errors, every {self.every} min"


LIMITS: Final = tuple(
    Limit(rule, headroom, every, enough)
    for rule, enough in ((FLAGGER, 5), (ARGO, 1))
    for every in (1, 5)
    for headroom in (1.25, 1.5, 2.0, 3.0, 5.0)
)


@dataclass(slots=True)
class Endings:
    """How one rule ended many releases, a column each; `exposed` counts the canary's attempts until the rollback."""

    rolled_back: list[bool] = field(default_factory=list)
    promoted: list[bool] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)
    exposed: list[float] = field(default_factory=list)

    def add(self, ended: peers.Ending, exposure: Floats) -> None:
        """Add one release, with how much the canary had served by each second."""
        self.rolled_back.append(ended.rolled_back)
        self.promoted.append(ended.promoted)
        self.minutes.append(ended.minutes)
        self.exposed.append(float(exposure[min(round(ended.minutes * 60), SECONDS) - 1]))

    def extend(self, other: Endings) -> None:
        """Add another worker's releases."""
        for mine, its in zip(self._columns(), other._columns(), strict=True):
            mine.extend(its)

    def _columns(self) -> tuple[list[float], ...]:
        return self.rolled_back, self.promoted, self.minutes, self.exposed  # type: ignore[return-value]


def judge_all(scenarios: Iterable[Scenario], seeds: range) -> Iterator[tuple[Scenario, Mapping[str, Endings]]]:
    """Simulate each row's releases on every core and judge them; in the order of the rows and seeds."""
    with ProcessPoolExecutor(WORKERS) as pool:
        for scenario in scenarios:
            chunks = [seeds[start::WORKERS] for start in range(WORKERS)]
            joined: dict[str, Endings] = {}
            for part in pool.map(partial(judge_some, scenario), chunks):
                for subject, endings in part.items():
                    joined.setdefault(subject, Endings()).extend(endings)
            yield scenario, joined


def judge_some(scenario: Scenario, seeds: range) -> dict[str, Endings]:
    """Simulate some releases of a row and judge them."""
    found: dict[str, Endings] = {}
    for seed in seeds:
        traffic = simulate(scenario, seed)
        counted = Counted.of(traffic)
        exposure = canary_exposure(list(counted.tables))
        for subject, ended in (*_ours(scenario, counted), *_theirs(scenario, by_minute(traffic))):
            found.setdefault(subject, Endings()).add(ended, exposure)
    return found


def _ours(scenario: Scenario, counted: Counted) -> Iterator[tuple[str, peers.Ending]]:
    evidence = counted.evidence()
    everything = convoy.criteria(scenario, convoy.STAKES["all metrics"])
    yield CONVOY, _ended(everything, evidence)
    yield ERRORS_ONLY, _ended(convoy.criteria(scenario, convoy.STAKES["errors only"]), evidence)
    if Also.POWER in scenario.also:
        for name, stakes in convoy.STAKES.items():
            yield f"judged by {name}", _ended(convoy.criteria(scenario, stakes), evidence)
        yield ORACLE, _by_oracle(scenario, counted)
    if Also.ASSUMED_SHARE in scenario.also:
        yield ASSUMED, _ended(everything, convoy.with_assumed_share(evidence, scenario.steps[0] / 100))
    if Also.EVERY_ATTEMPT in scenario.also:
        yield EVERY_ATTEMPT, _ended(everything, convoy.with_every_attempt(evidence))


def _theirs(scenario: Scenario, told: ByMinute) -> Iterator[tuple[str, peers.Ending]]:
    limit = peers.limit_for(scenario.errors)
    yield FLAGGER, peers.flagger(told.canary, limit)
    yield ARGO, peers.argo_rollouts(told.canary, limit)
    yield KAYENTA, kayenta(told)
    if Also.LIMITS in scenario.also:
        for one in LIMITS:
            yield one.name, peers.by_errors_alone(told.canary, peers.limit_for(scenario.errors, one.headroom), one.every, one.enough)


def _ended(declared: Criteria, evidence: Evidence) -> peers.Ending:
    found: Decided = convoy.judged(declared, evidence)
    minutes = SECONDS / 60 if found.outcome is not Outcome.ROLL_BACK or found.second is None else (found.second + 1 - BEGIN) / 60
    return peers.Ending(found.outcome is Outcome.ROLL_BACK, found.outcome is Outcome.PROMOTE, minutes)


def _by_oracle(scenario: Scenario, counted: Counted) -> peers.Ending:
    total = np.zeros(SECONDS)
    for place, table in zip(scenario.places, counted.tables, strict=True):
        odds = oracle.odds_ratio_of(place.errors, place.canary.errors_times)
        total += oracle.log_ratio(table[:, 1, _BAD], table[:, 0, _BAD], shares(scenario, place), odds)
    reached = np.flatnonzero(total >= -np.log(convoy.ALPHA))
    return peers.Ending(bool(len(reached)), False, (reached[0] + 1) / 60 if len(reached) else SECONDS / 60)
