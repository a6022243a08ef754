"""Convoy's own judge, as shipped, over the counts of a simulated release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np

from benchmarks.judging.chain import BEGIN
from benchmarks.judging.counting import as_pairs, as_strata, count, count_pairs
from benchmarks.judging.scenarios import STEPS, Scenario
from benchmarks.judging.simulator import SECONDS, Ints, Traffic
from fleet.declared import Rollback, Stakes
from monitoring.conviction import Evidence
from monitoring.criteria import Criteria
from monitoring.replay import Decided, decide
from monitoring.strata import Arm, Strata

ALPHA: Final = 0.05
MARGIN: Final = 0.01
"""Promotion: the canary's rate of bad answers is less than one point above stable's."""
SHIFT: Final = 0.02
DISAGREEMENT: Final = 0.02
SLO_TIMES: Final = 5.0
"""Each region's SLO allows so many times stable's usual errors: what only weather does must not breach it."""
SMALLEST_SLO: Final = 0.01
CUTS: Final = tuple(BEGIN + step * SECONDS // len(STEPS) for step in range(1, len(STEPS)))
"""The seconds from which other weights held, as the flow tells the judge."""

_NONE = {"errors": 0.0, "slow": 0.0, "objective": 0.0, "predictions": 0.0, "pairs": 0.0}
STAKES: Final = MappingProxyType(
    {
        "errors only": Stakes(**_NONE | {"errors": 1}),
        "errors, slow": Stakes(objective=0, predictions=0, pairs=0),
        "errors, slow, SLO": Stakes(predictions=0, pairs=0),
        "errors, slow, SLO, predictions": Stakes(pairs=0),
        "all metrics": Stakes(),
    }
)
"""What may convict, from one metric to all; the stakes are the ones that `fleet.yaml` has by default."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """A release's counts, edge by edge: what the shipped agents would answer."""

    regions: tuple[str, ...]
    tables: tuple[Ints, ...]
    pairs: tuple[Ints, ...]
    seconds: int = SECONDS

    @classmethod
    def of(cls, several: Sequence[Traffic]) -> Counted:
        """Count a release."""
        regions = tuple(traffic.place.name for traffic in several)
        return cls(regions, tuple(count(traffic) for traffic in several), tuple(count_pairs(traffic) for traffic in several))

    def until(self, seconds: int) -> Counted:
        """Return what had been counted after so many seconds."""
        seen = (np.arange(SECONDS) < seconds).astype(np.int64)
        tables = tuple(table * seen[:, None, None] for table in self.tables)
        return Counted(self.regions, tables, tuple(pairs * seen[:, None] for pairs in self.pairs), seconds)

    def evidence(self) -> Evidence:
        """Return the counts as the judge's own strata."""
        return Evidence(
            {region: as_strata(table, BEGIN) for region, table in zip(self.regions, self.tables, strict=True)},
            {region: as_pairs(table, BEGIN) for region, table in zip(self.regions, self.pairs, strict=True)},
            CUTS,
            BEGIN + self.seconds,
        )


def criteria(scenario: Scenario, stakes: Stakes) -> Criteria:
    """Return what a release of this row declares."""
    return Criteria(
        Rollback(alpha=ALPHA, margin=MARGIN, bound="difference", stakes=stakes),
        {place.name: max(SLO_TIMES * place.errors, SMALLEST_SLO) for place in scenario.places},
        SHIFT,
        DISAGREEMENT,
    )


def judged(declared: Criteria, evidence: Evidence) -> Decided:
    """Return how the shipped judge ends the release, looking every second; it promotes at the last step's end only."""
    last = max((int(strata.second[-1]) for strata in evidence.strata.values() if len(strata.second)), default=BEGIN)
    return decide(declared, evidence, promote_from=last)


def with_assumed_share(evidence: Evidence, share: float) -> Evidence:
    """Return what a judge would see that trusts the declared weight instead of counting what was dealt: the trap."""
    return replace(evidence, strata={region: _assumed(strata, share) for region, strata in evidence.strata.items()})


def with_every_attempt(evidence: Evidence) -> Evidence:
    """Return what a judge would see that takes each attempt of a burst for news: the other trap."""
    return replace(evidence, strata={region: _every(strata) for region, strata in evidence.strata.items()})


def _assumed(strata: Strata, share: float) -> Strata:
    # Fine enough that whole attempts can have any share
    fine = 1000
    total = (strata.canary.attempts + strata.stable.attempts) * fine
    canary = (total * share).round().astype(total.dtype)
    return replace(strata, canary=replace(strata.canary, attempts=canary), stable=replace(strata.stable, attempts=total - canary))


def _every(strata: Strata) -> Strata:
    def every(arm: Arm) -> Arm:
        return replace(arm, bad_once=arm.bad, slow_once=arm.slow)

    return replace(strata, canary=every(strata.canary), stable=every(strata.stable))
