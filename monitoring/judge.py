"""The canary judge: roll back on evidence of harm, promote on evidence of health, otherwise say what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.declared import Rollback
from fleet.errors import InputError
from fleet.evidence import Outcome, RegionEvidence, Verdict
from monitoring import reasons
from monitoring.harm import Harm, harm
from monitoring.promotion import passes, upper_bound
from monitoring.strata import CanaryEvidence, Strata, strata_by_region

__all__ = ["STALE_SECONDS", "CanaryEvidence", "judge"]

# An edge folds its log within a few seconds; counts older than this may hide what happens now, so they never promote.
STALE_SECONDS = 30.0


def judge(policy: Rollback, evidence: CanaryEvidence, now: datetime) -> Verdict:
    """Conclude from everything observed since the canary began; pure, to be asked as often as one likes.

    Harm comes first: `policy.alpha` bounds the chance that a canary which is no worse is ever rolled back, over all
    regions and looks. Then `policy.promotion_error` bounds the chance that one whose rate is `policy.margin` or more
    in some region is ever promoted. Raises InputError for counts that contradict themselves and for a naive `now`.
    """
    if now.tzinfo is None:
        raise InputError("the judge's clock", "has no time zone", "Pass an aware datetime.")
    strata = strata_by_region(evidence)
    limit = 1 / policy.alpha
    found = harm(tuple(strata.values()), policy.odds_ratio, limit)
    regions = _figures(policy, strata, found)
    outcome, why = _conclude(policy, found, regions, reasons.of_age(evidence.attempts.complete_to, now, STALE_SECONDS))
    blind = tuple(reason for region, of_region in strata.items() for reason in reasons.of_blindness(region, of_region))
    return Verdict(outcome, why + blind, found.value, limit, regions)


def _conclude(
    policy: Rollback, found: Harm, regions: tuple[RegionEvidence, ...], too_old: tuple[str, ...]
) -> tuple[Outcome, tuple[str, ...]]:
    """Harm first, then health in every region, then waiting."""
    if found.second is not None:
        return Outcome.ROLL_BACK, reasons.of_rollback(policy, found, regions)
    healthy = all(passes(region.canary_attempts, region.canary_bad, policy.margin, policy.promotion_error) for region in regions)
    if healthy and not too_old:
        return Outcome.PROMOTE, reasons.of_promotion(policy, found, regions)
    return Outcome.NOT_ENOUGH_DATA, too_old + reasons.of_waiting(policy, found, regions)


def _figures(policy: Rollback, strata: Mapping[str, Strata], found: Harm) -> tuple[RegionEvidence, ...]:
    """Each region's sums, for showing and for its own bound; the comparison was made stratum by stratum."""
    return tuple(
        _figure(region, of_region, value, policy.promotion_error)
        for (region, of_region), value in zip(strata.items(), found.regions, strict=True)
    )


def _figure(region: str, strata: Strata, harm_there: float, error: float) -> RegionEvidence:
    attempts, bad = int(strata.canary_attempts.sum()), int(strata.canary_bad.sum())
    return RegionEvidence(
        region=region,
        canary_attempts=attempts,
        canary_bad=bad,
        stable_attempts=int(strata.stable_attempts.sum()),
        stable_bad=int(strata.stable_bad.sum()),
        harm=harm_there,
        upper_bound=upper_bound(attempts, bad, error),
    )
