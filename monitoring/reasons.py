"""A verdict in sentences that an engineer understands at three in the morning: value, limit, region."""

from __future__ import annotations

from datetime import UTC, datetime

from fleet.declared import Rollback
from fleet.evidence import RegionEvidence
from monitoring.harm import Harm
from monitoring.power import clean_answers_needed
from monitoring.promotion import passes
from monitoring.strata import Strata


def of_rollback(policy: Rollback, found: Harm, regions: tuple[RegionEvidence, ...]) -> tuple[str, ...]:
    """Say when the evidence of harm reached its limit, and what each region saw, the worst first."""
    when = datetime.fromtimestamp(found.second or 0, UTC).isoformat()
    first = (
        f"The canary gives more bad answers than stable: evidence of harm {found.value:,.1f} reached the limit {limit_of(policy)} at {when}"
    )
    return (f"{first}.", *(_compared(region) for region in sorted(regions, key=lambda region: -region.harm)))


def of_promotion(policy: Rollback, found: Harm, regions: tuple[RegionEvidence, ...]) -> tuple[str, ...]:
    """Say that there is no harm and by how much each region passes."""
    return (_no_harm(policy, found), *(_passing(policy, region) for region in regions))


def of_waiting(policy: Rollback, found: Harm, regions: tuple[RegionEvidence, ...]) -> tuple[str, ...]:
    """Say what each region still needs."""
    return (_no_harm(policy, found), *(_waiting(policy, region) for region in regions))


def of_blindness(region: str, strata: Strata) -> tuple[str, ...]:
    """Say that harm is hardly visible in a region whose canary was mostly tried in seconds without stable."""
    attempts = int(strata.canary_attempts.sum())
    compared = int(strata.canary_attempts[strata.comparable()].sum())
    if 2 * compared >= attempts:
        return ()
    seen = f"only {compared:,} of the canary's {attempts:,} attempts fell into a second in which stable had one too"
    return (f"In {region} {seen}: harm can hardly be seen there.",)


def of_age(complete_to: int, now: datetime, allowed: float) -> tuple[str, ...]:
    """Say that the counts are older than `allowed` seconds, if they are."""
    if complete_to <= 0:
        return ("No edge has reported complete counts yet.",)
    age = now.timestamp() - complete_to
    if age <= allowed:
        return ()
    return (f"The counts are complete only up to {age:,.0f} s ago (limit {allowed:,.0f} s): an edge has stopped reporting.",)


def limit_of(policy: Rollback) -> str:
    """The limit of the evidence of harm with where it comes from."""
    return f"{1 / policy.alpha:,.1f} (1/alpha, alpha {policy.alpha:g})"


def _no_harm(policy: Rollback, found: Harm) -> str:
    return f"No evidence of harm: {found.value:.3g} of the limit {limit_of(policy)}."


def _compared(region: RegionEvidence) -> str:
    canary = _rate(region.canary_bad, region.canary_attempts)
    stable = _rate(region.stable_bad, region.stable_attempts)
    return f"In {region.region} the canary had {canary}, stable {stable}; evidence there {region.harm:,.3g}."


def _passing(policy: Rollback, region: RegionEvidence) -> str:
    seen = _rate(region.canary_bad, region.canary_attempts)
    return f"In {region.region} the canary had {seen}: its rate is at most {_bound(policy, region)}."


def _waiting(policy: Rollback, region: RegionEvidence) -> str:
    attempts, bad = region.canary_attempts, region.canary_bad
    if passes(attempts, bad, policy.margin, policy.promotion_error):
        return _passing(policy, region)
    needed = f"{clean_answers_needed(policy.margin, policy.promotion_error, attempts, bad):,}"
    if not attempts:
        return (
            f"In {region.region} the canary had no attempt yet: {needed} clean answers are needed to bound its rate by {policy.margin:.2%}."
        )
    seen = f"In {region.region} the canary had {_rate(bad, attempts)}"
    if bad / attempts >= policy.margin:
        return f"{seen}: more than the margin of {policy.margin:.2%} allows; {needed} more clean answers would be needed."
    return f"{seen}: its rate is at most {_bound(policy, region)}; {needed} more clean answers are needed."


def _bound(policy: Rollback, region: RegionEvidence) -> str:
    return f"{region.upper_bound:.2%} (margin {policy.margin:.2%}, error level {policy.promotion_error:g})"


def _rate(bad: int, attempts: int) -> str:
    if not attempts:
        return "no attempt"
    return f"{bad:,} bad of {attempts:,} attempts ({bad / attempts:.2%})"
