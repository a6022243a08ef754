"""Simulated canaries: seeded attempts by two revisions, as the strata and the counts that the judge reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from fleet.evidence import AttemptCount, Attempts
from monitoring.harm import harm
from monitoring.strata import CanaryEvidence, Strata

CANARY, STABLE = "sha256:" + "c" * 64, "sha256:" + "5" * 64
REGIONS = ("aws-us-east-1", "gcp-europe-west4", "azure-southeastasia")
START = 1_795_000_000


@dataclass(frozen=True)
class Place:
    """A region: requests per second, stable's error rate, and by how much the canary's odds differ."""

    rate: float
    errors: float
    odds_ratio: float = 1.0
    share_factor: float = 1.0
    wave: float = 0.0


def simulate(rng: np.random.Generator, place: Place, shares: np.ndarray) -> Strata:
    """Deal requests out by chance, one by one, second after second."""
    seconds = np.arange(len(shares))
    errors = np.clip(place.errors * (1 + place.wave * np.sin(seconds / 40)), 0, 0.95)
    odds = place.odds_ratio * errors / (1 - errors)
    requests = rng.poisson(place.rate * (1 + place.wave * np.cos(seconds / 55)))
    canary = rng.binomial(requests, np.clip(shares * place.share_factor, 0, 1))
    stable = requests - canary
    return Strata(START + seconds, canary, rng.binomial(canary, odds / (1 + odds)), stable, rng.binomial(stable, errors))


def steps(*percent: int, seconds: int) -> np.ndarray:
    return np.repeat(np.array(percent) / 100, seconds)


def ever_rolled_back(
    places: Sequence[Place], shares: np.ndarray, runs: int, seed: int, odds_ratio: float = 1.0, alpha: float = 0.05
) -> tuple[float, float]:
    """The fraction of runs that reach the limit at any second, and the median of the canary's requests up to there."""
    rng = np.random.default_rng(seed)
    exposed = []
    for _ in range(runs):
        regions = [simulate(rng, place, shares) for place in places]
        found = harm(regions, odds_ratio, 1 / alpha)
        if found.second is not None:
            exposed.append(sum(int(strata.canary_attempts[strata.second <= found.second].sum()) for strata in regions))
    return len(exposed) / runs, float(np.median(exposed)) if exposed else float("nan")


def at_most(alpha: float, runs: int) -> float:
    """Three standard errors above alpha: what a fraction may reach by chance when its probability is alpha."""
    return alpha + 3 * float(np.sqrt(alpha * (1 - alpha) / runs))


def counts_of(region: str, strata: Strata, edge: str = "edge-1") -> list[AttemptCount]:
    rows = zip(*(column.tolist() for column in _columns(strata)), strict=True)
    counts = []
    for second, canary, canary_bad, stable, stable_bad in rows:
        counts.append(AttemptCount(second, edge, "employment", CANARY, region, canary, canary_bad))
        counts.append(AttemptCount(second, edge, "employment", STABLE, region, stable, stable_bad))
    return counts


def evidence_of(counts: Iterable[AttemptCount], complete_to: int, regions: tuple[str, ...] = REGIONS) -> CanaryEvidence:
    return CanaryEvidence(CANARY, STABLE, Attempts(tuple(counts), complete_to), regions)


def steady(seconds: int, canary: int, stable: int, canary_bad: int = 0, stable_bad: int = 0) -> Strata:
    """The same counts in every second."""
    same = (np.full(seconds, value) for value in (canary, canary_bad, stable, stable_bad))
    return Strata(START + np.arange(seconds), *same)


def with_assumed_share(strata: Strata, share: float) -> Strata:
    """What a judge sees that trusts the intended weight instead of counting the attempts."""
    total = strata.canary_attempts + strata.stable_attempts
    scale = 1000
    canary = np.round(total * share * scale).astype(np.int64)
    return replace(strata, canary_attempts=canary, stable_attempts=total * scale - canary)


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _columns(strata: Strata) -> tuple[np.ndarray, ...]:
    return strata.second, strata.canary_attempts, strata.canary_bad, strata.stable_attempts, strata.stable_bad
