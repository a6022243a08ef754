"""Simulated canaries: seeded attempts by two revisions, as the strata and the counts that the judge reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from fleet.declared import Rollback, Stakes
from fleet.evidence import AttemptCount, Attempts
from monitoring.conviction import Evidence, Harm, weigh
from monitoring.criteria import Criteria
from monitoring.strata import Arm, CanaryEvidence, Strata

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
    return strata_of(START + seconds, canary, rng.binomial(canary, odds / (1 + odds)), stable, rng.binomial(stable, errors))


def strata_of(second: np.ndarray, canary: np.ndarray, canary_bad: np.ndarray, stable: np.ndarray, stable_bad: np.ndarray) -> Strata:
    """Strata whose callers nobody told apart."""
    return Strata(second, Arm.of(canary, canary_bad), Arm.of(stable, stable_bad), np.zeros_like(second))


ERRORS_ALONE = Stakes(errors=1, slow=0, objective=0, predictions=0, pairs=0)


def harm(regions: Sequence[Strata], odds_ratio: float, limit: float) -> Harm:
    """Weigh the bad answers alone."""
    policy = Rollback(alpha=1 / limit, odds_ratio=odds_ratio, margin=0.01, stakes=ERRORS_ALONE)
    return weigh(Criteria(policy), Evidence({f"region-{number}": strata for number, strata in enumerate(regions)}, {}))


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
            exposed.append(sum(int(strata.canary.attempts[strata.second <= found.second].sum()) for strata in regions))
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
    return strata_of(START + np.arange(seconds), *same)


def with_assumed_share(strata: Strata, share: float) -> Strata:
    """What a judge sees that trusts the intended weight instead of counting the attempts."""
    total = strata.canary.attempts + strata.stable.attempts
    scale = 1000
    canary = np.round(total * share * scale).astype(np.int64)
    return Strata(
        strata.second, replace(strata.canary, attempts=canary), replace(strata.stable, attempts=total * scale - canary), strata.edge
    )


def moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _columns(strata: Strata) -> tuple[np.ndarray, ...]:
    return strata.second, strata.canary.attempts, strata.canary.bad, strata.stable.attempts, strata.stable.bad
