"""The canary judge: roll back on evidence of harm, promote on evidence of health, otherwise say what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from fleet.errors import InputError
from fleet.evidence import MetricEvidence, Outcome, RegionEvidence, Verdict
from monitoring import reasons
from monitoring.conviction import Evidence, Harm, weigh
from monitoring.criteria import Criteria
from monitoring.power import clean_answers_needed
from monitoring.promotion import Seen, passes, seen_in, together, upper_bound
from monitoring.strata import CanaryEvidence, Strata, pairs_by_region, strata_by_region

__all__ = ["STALE_SECONDS", "CanaryEvidence", "Criteria", "judge"]

# An edge folds its log within a few seconds; counts older than this may hide what happens now, so they never promote.
STALE_SECONDS = 30.0


def judge(criteria: Criteria, evidence: CanaryEvidence, now: datetime) -> Verdict:
    """Conclude from everything observed since the canary began; pure, to be asked as often as one likes.

    Harm comes first: alpha bounds the chance that a canary which is no worse is ever rolled back, over all metrics,
    regions and looks. Then the promotion error bounds the chance that one whose rate (or difference from stable)
    averages the margin or more, in some region or over all traffic as declared, is ever promoted.
    Raises InputError for counts that contradict themselves and for a naive `now`.
    """
    if now.tzinfo is None:
        raise InputError("the judge's clock", "has no time zone", "Pass an aware datetime.")
    strata = strata_by_region(evidence)
    found = weigh(criteria, Evidence(strata, pairs_by_region(evidence), evidence.cuts, evidence.attempts.complete_to))
    seen = {region: seen_in(of_region, criteria.rollback.bound) for region, of_region in strata.items()}
    regions = _figures(criteria, strata, seen, found)
    case = reasons.Case(criteria, found, regions, seen, _only_in(criteria, found, regions))
    fresh_to = evidence.attempts.complete_to if evidence.fresh_to is None else evidence.fresh_to
    outcome, why = _conclude(case, reasons.of_age(fresh_to, now, STALE_SECONDS))
    blind = tuple(reason for region, of_region in strata.items() for reason in reasons.of_blindness(region, of_region))
    policy, stakes = criteria.rollback, criteria.stakes()
    return Verdict(
        outcome=outcome,
        reasons=why + blind,
        harm=found.value,
        harm_limit=criteria.limit,
        regions=regions,
        metrics=tuple(MetricEvidence(metric, value, stakes[metric]) for metric, value in found.metrics),
        upper_bound=upper_bound(together(seen.values()), policy.promotion_error, policy.bound),
        only_in=case.only_in,
        course=found.course,
        answers_needed=max(clean_answers_needed(policy.margin, policy.promotion_error, one) for one in case.bounded.values()),
    )


def _conclude(case: reasons.Case, too_old: tuple[str, ...]) -> tuple[Outcome, tuple[str, ...]]:
    """Harm first, then health everywhere, then waiting."""
    if case.found.second is not None:
        return Outcome.ROLL_BACK, reasons.of_rollback(case)
    if case.overspent:
        return Outcome.ROLL_BACK, reasons.of_overspending(case)
    policy = case.criteria.rollback
    tried = all(region.canary_attempts for region in case.regions)
    healthy = tried and all(passes(seen, policy.margin, policy.promotion_error) for seen in case.bounded.values())
    if healthy and not too_old:
        return Outcome.PROMOTE, reasons.of_promotion(case)
    return Outcome.NOT_ENOUGH_DATA, too_old + reasons.of_waiting(case)


def _figures(criteria: Criteria, strata: Mapping[str, Strata], seen: Mapping[str, Seen], found: Harm) -> tuple[RegionEvidence, ...]:
    """Each region's sums, for showing and for its own bound; the comparison was made stratum by stratum."""
    return tuple(
        _figure(criteria, region, of_region, (seen[region], value))
        for (region, of_region), value in zip(strata.items(), found.regions, strict=True)
    )


def _figure(criteria: Criteria, region: str, strata: Strata, weighed: tuple[Seen, float]) -> RegionEvidence:
    seen, harm_there = weighed
    return RegionEvidence(
        region=region,
        canary_attempts=seen.attempts,
        canary_bad=seen.bad,
        stable_attempts=int(strata.stable.attempts.sum()),
        stable_bad=int(strata.stable.bad.sum()),
        harm=harm_there,
        upper_bound=upper_bound(seen, criteria.rollback.promotion_error, criteria.rollback.bound),
        canary_slow=int(strata.canary.slow.sum()),
        stable_slow=int(strata.stable.slow.sum()),
    )


def _only_in(criteria: Criteria, found: Harm, regions: tuple[RegionEvidence, ...]) -> str:
    """Name the region that alone shows the harm: enough evidence there by itself, and none in any other."""
    if found.second is None or len(regions) < 2:
        return ""
    worst = max(regions, key=lambda region: region.harm)
    alone = worst.harm >= criteria.limit and all(region.harm <= 1 for region in regions if region is not worst)
    return worst.region if alone else ""
