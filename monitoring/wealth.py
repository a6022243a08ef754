"""Bets that multiply, and how they are combined without spending more than one error budget.

Each metric bets against "the canary does no harm": in every region several bets run at once, and the wealth of each
is a nonnegative supermartingale that starts at 1 while that is true. Three ways of joining them keep that property:

- **Mixing bets** of one region with weights that sum to 1 (a mixture of supermartingales is one).
- **Pooling regions by the product**, bet by bet. It needs that what a region adds in a second is at most 1 in the mean given the
  past *and the other regions' second*. That holds for what is compared with stable, because the edges deal requests out
  by chance, each by itself: whatever made requests bad in two regions at once, it did not choose the revision that
  got them. What all regions show together is found with as many requests as one region would need. It does not hold for
  what has a fixed limit: there a failure behind two regions at once would count twice.
- **Averaging**, which is right under any dependence (Vovk & Wang, "E-values: calibration, combination and
  applications", Annals of Statistics 49(3), 2021). The product would let healthy regions, whose wealth sinks, outweigh
  harm in a single one; so half of such a metric's stake is on the pooled bets and half is spread over the regions. The
  metrics look at the same requests and depend on one another, so they are averaged, with declared stakes.

So the release's wealth is one nonnegative supermartingale, and by Ville's inequality it ever reaches 1/alpha with a
chance of at most alpha: one budget over all metrics, regions and looks. A stake of one half costs a factor of two in
wealth, so about ln 2 / ln 20 = 23 % more evidence at alpha = 0.05; `benchmarks/judge.py` shows what it comes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.strata import Counts, Floats

POOLED = 0.5
"""The part of a metric's stake that is on all regions together; the rest is spread evenly over the regions."""

# Beyond this the number says nothing more, and no float or JSON overflows.
_LARGEST_LOG = 690.0


@dataclass(frozen=True, slots=True, eq=False)
class Bets:
    """One region's bets: `logs` has the logarithm of each bet's wealth (columns) after each stratum (rows)."""

    second: Counts
    logs: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """A metric's wealth over time as logarithms: all regions together, and each alone (rows), at each second."""

    total: Floats
    regions: Floats


def seconds_of(several: Sequence[Counts]) -> Counts:
    """Return every second in which some region has a stratum, in order."""
    return np.unique(np.concatenate(several)) if several else np.zeros(0, dtype=np.int64)


def join(regions: Sequence[Bets], weights: Sequence[float], seconds: Counts, dealt: bool) -> Joined:
    """Join the regions' bets, whose weights sum to 1, at the given seconds.

    `dealt` says that the bets compare what was dealt out by chance, so that the regions may be pooled.
    """
    held = np.stack([_held(bets, seconds) for bets in regions])
    stakes = np.log(np.asarray(weights, dtype=np.float64))
    alone = np.logaddexp.reduce(held + stakes, axis=2)
    if len(regions) == 1:
        return Joined(alone[0], alone)
    spread = np.logaddexp.reduce(alone, axis=0) - np.log(len(regions))
    if not dealt:
        return Joined(spread, alone)
    pooled = np.logaddexp.reduce(held.sum(axis=0) + stakes, axis=1)
    return Joined(np.logaddexp(pooled + np.log(POOLED), spread + np.log(1 - POOLED)), alone)


def averaged(wealths: Sequence[Floats], stakes: Sequence[float]) -> Floats:
    """Return the logarithm of the average of several processes, each with its stake; the stakes sum to 1."""
    return np.asarray(np.logaddexp.reduce(np.stack(wealths) + np.log(np.asarray(stakes))[:, None], axis=0), dtype=np.float64)


def e_value(log: float) -> float:
    """Return an e-value from its logarithm, never so large that it overflows."""
    return float(np.exp(min(log, _LARGEST_LOG)))


def _held(bets: Bets, seconds: Counts) -> Floats:
    """Hold a region's wealth constant between its own strata; before the first each bet has its stake, 1."""
    last = np.searchsorted(bets.second, seconds, side="right")
    return np.asarray(np.concatenate([np.zeros((1, bets.logs.shape[1])), bets.logs])[last], dtype=np.float64)
