"""All evidence of harm in one process: every metric in every region, under one error budget (see `wealth`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fleet.evidence import Metric
from monitoring import excess, harm, shift
from monitoring.closing import closed
from monitoring.criteria import Criteria
from monitoring.strata import Counts, Floats, PairStrata, Strata
from monitoring.wealth import Bets, Joined, averaged, e_value, join, seconds_of

POINTS = 24
"""How many points of its course a process tells."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is judged, sorted: each region's seconds, and its pairs where a shadow answered beside stable.

    `cuts` are the seconds from which on other weights held, `until` the one up to which everything is known.
    """

    strata: Mapping[str, Strata]
    pairs: Mapping[str, PairStrata]
    cuts: tuple[int, ...] = ()
    until: int | None = None

    def closed(self) -> Evidence:
        """Return the evidence with its seconds joined into strata that can be bet on."""
        until = max((int(one.second[-1]) + 1 for one in self.strata.values() if len(one.second)), default=0)
        known = until if self.until is None else self.until
        return replace(self, strata={region: closed(one, self.cuts, known) for region, one in self.strata.items()})


@dataclass(frozen=True, slots=True)
class Harm:
    """The evidence of harm: e-values of the release, of each region and each metric, and the second at which the limit was reached.

    `course` is how it came there, in evenly spaced points: 0 no evidence, 1 the limit, on the scale of logarithms.

    The process stops when it reaches its limit, so the same counts convict whenever one looks; until then `second` is
    None and the e-values are the latest.
    """

    value: float
    regions: tuple[float, ...]
    metrics: tuple[tuple[Metric, float], ...]
    second: int | None
    course: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Process:
    """The release's wealth as logarithms after each second, as if nobody stopped, with what it is made of."""

    seconds: Counts
    total: Floats
    joined: Mapping[Metric, Joined]
    stakes: Mapping[Metric, float]

    def reached(self, limit: float) -> int | None:
        """Return the place of the first second at which an e-value of `limit` is reached, None before."""
        found = np.flatnonzero(self.total >= np.log(limit))
        return int(found[0]) if len(found) else None

    def regions(self, place: int) -> tuple[float, ...]:
        """Return each region's own e-value at a place: the average over the metrics."""
        logs = averaged([one.regions[:, place] for one in self.joined.values()], list(self.stakes.values()))
        return tuple(e_value(log) for log in logs)


def process(criteria: Criteria, evidence: Evidence) -> Process:
    """Combine all metrics and regions in the order in which their strata closed."""
    evidence, stakes = evidence.closed(), criteria.stakes()
    seconds = seconds_of([found.second for kind in (evidence.strata, evidence.pairs) for found in kind.values()])
    joined = {metric: join(bets(criteria, evidence, metric), _weights(metric), seconds, metric in _DEALT) for metric in stakes}
    return Process(seconds, averaged([one.total for one in joined.values()], list(stakes.values())), joined, stakes)


def weigh(criteria: Criteria, evidence: Evidence) -> Harm:
    """Stop the process at the first second that reaches the limit, and say how it stands there."""
    found = process(criteria, evidence)
    if not len(found.seconds):
        return Harm(1.0, (1.0,) * len(evidence.strata), tuple((metric, 1.0) for metric in found.stakes), None)
    reached = found.reached(criteria.limit)
    place = len(found.seconds) - 1 if reached is None else reached
    return Harm(
        e_value(found.total[place]),
        found.regions(place),
        tuple((metric, e_value(one.total[place])) for metric, one in found.joined.items()),
        None if reached is None else int(found.seconds[place]),
        _course(found.total[: place + 1] / np.log(criteria.limit)),
    )


def _course(way: Floats) -> tuple[float, ...]:
    """Thin out the way to the limit to a few points, the last one among them."""
    places = np.unique(np.linspace(0, len(way) - 1, POINTS).round().astype(int))
    return tuple(float(value) for value in np.clip(way[places], 0, 1))


def bets(criteria: Criteria, evidence: Evidence, metric: Metric) -> list[Bets]:
    """Return each region's bets for one metric."""
    strata = evidence.strata
    allowed = criteria.rollback.odds_ratio
    match metric:
        case Metric.ERRORS:
            return [harm.harm_bets(found, allowed, "bad_once") for found in strata.values()]
        case Metric.SLOW:
            return [harm.harm_bets(found, allowed, "slow_once") for found in strata.values()]
        case Metric.OBJECTIVE:
            return [_objective(found, criteria.error_rates.get(region, 1.0)) for region, found in strata.items()]
        case Metric.PREDICTIONS:
            return [shift.shift_bets(found, criteria.shift or 0.0) for found in strata.values()]
        case Metric.PAIRS:
            return [_disagreement(found, criteria.disagreement or 0.0) for found in evidence.pairs.values()]


_DEALT = frozenset({Metric.ERRORS, Metric.SLOW, Metric.PREDICTIONS})
"""The metrics that compare what the edges dealt out by chance, so that regions may be pooled."""


def _weights(metric: Metric) -> tuple[float, ...]:
    return {Metric.PREDICTIONS: shift.WEIGHTS, Metric.OBJECTIVE: excess.WEIGHTS, Metric.PAIRS: excess.WEIGHTS}.get(
        metric, harm.MIXTURE.weights
    )


def _objective(strata: Strata, error_rate: float) -> Bets:
    return excess.excess_bets(strata.second, strata.canary.attempts, strata.canary.bad_once, error_rate)


def _disagreement(pairs: PairStrata, allowed: float) -> Bets:
    return excess.excess_bets(pairs.second, pairs.pairs, pairs.disagreed, allowed)
