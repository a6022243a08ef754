"""A verdict in sentences that an engineer understands at three in the morning: value, limit, region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fleet.declared import Rollback
from fleet.evidence import Metric, RegionEvidence
from monitoring.conviction import Harm
from monitoring.criteria import Criteria
from monitoring.power import clean_answers_needed
from monitoring.promotion import Seen, passes, together, upper_bound
from monitoring.strata import Strata

EVERYWHERE = "all regions together"


@dataclass(frozen=True, slots=True)
class Case:
    """What a verdict is explained from: the limits, the evidence of harm, each region's figures and sums."""

    criteria: Criteria
    found: Harm
    regions: tuple[RegionEvidence, ...]
    seen: Mapping[str, Seen]
    only_in: str

    @property
    def overspent(self) -> bool:
        """Whether the canary has given as many bad answers as it may."""
        budget = self.criteria.harm_budget
        return budget is not None and self.cost >= budget

    @property
    def cost(self) -> int:
        """How many bad answers the canary gave."""
        return sum(region.canary_bad for region in self.regions)

    @property
    def bounded(self) -> Mapping[str, Seen]:
        """What must be bounded by the margin: each region, or all traffic at once."""
        return self.seen if self.criteria.rollback.scope == "region" else {EVERYWHERE: together(self.seen.values())}


def of_rollback(case: Case) -> tuple[str, ...]:
    """Say when the evidence of harm reached its limit, of what kind it is, and what each region saw, the worst first."""
    found = case.found
    when = datetime.fromtimestamp(found.second or 0, UTC).isoformat()
    worst, _ = max(found.metrics, key=lambda each: each[1] * case.criteria.stakes()[each[0]])
    where = f", only in {case.only_in}" if case.only_in else ""
    first = f"The canary {worst.meaning}{where}: evidence of harm {found.value:,.1f} reached the limit {limit_of(case.criteria)} at {when}"
    others = _of_metrics(case) if len(found.metrics) > 1 else ()
    return (f"{first}.", *(_compared(region, worst) for region in sorted(case.regions, key=lambda region: -region.harm)), *others)


def of_overspending(case: Case) -> tuple[str, ...]:
    """Say that the canary has cost what it may, which is no evidence that it is worse than stable."""
    spent = f"The harm budget is spent: the canary gave {case.cost:,} bad answers of the {case.criteria.harm_budget:,} that it may give"
    return (
        f"{spent}.",
        _no_harm(case),
        *(_compared(region, Metric.ERRORS) for region in sorted(case.regions, key=lambda one: -one.canary_bad)),
    )


def of_promotion(case: Case) -> tuple[str, ...]:
    """Say that there is no harm and by how much everything passes."""
    return (_no_harm(case), *(_passing(case, place, seen) for place, seen in case.bounded.items()))


def of_waiting(case: Case) -> tuple[str, ...]:
    """Say what is still needed, and where."""
    untried = (
        () if case.criteria.rollback.scope == "region" else tuple(region.region for region in case.regions if not region.canary_attempts)
    )
    silent = (f"The canary had no attempt yet in {', '.join(untried)}: it is not promoted there unseen.",) if untried else ()
    return (_no_harm(case), *silent, *(_waiting(case, place, seen) for place, seen in case.bounded.items()))


def of_blindness(region: str, strata: Strata) -> tuple[str, ...]:
    """Say that harm is hardly visible in a region whose canary was mostly tried in seconds without stable."""
    attempts = int(strata.canary.attempts.sum())
    compared = int(strata.canary.attempts[strata.comparable()].sum())
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


def limit_of(criteria: Criteria) -> str:
    """The limit of the evidence of harm with where it comes from."""
    return f"{criteria.limit:,.1f} (1/alpha, alpha {criteria.rollback.alpha:g})"


def _no_harm(case: Case) -> str:
    return f"No evidence of harm: {case.found.value:.3g} of the limit {limit_of(case.criteria)}."


def _of_metrics(case: Case) -> tuple[str, ...]:
    stakes = case.criteria.stakes()
    told = ", ".join(f"{metric.value} {value:,.3g} (stake {stakes[metric]:.0%})" for metric, value in case.found.metrics)
    return (f"Evidence by metric: {told}.",)


def _compared(region: RegionEvidence, metric: Metric) -> str:
    if metric is Metric.SLOW:
        canary, stable = _slow(region.canary_slow, region.canary_attempts), _slow(region.stable_slow, region.stable_attempts)
    else:
        canary, stable = _rate(region.canary_bad, region.canary_attempts), _rate(region.stable_bad, region.stable_attempts)
    return f"In {region.region} the canary had {canary}, stable {stable}; evidence there {region.harm:,.3g}."


def _passing(case: Case, place: str, seen: Seen) -> str:
    return f"In {place} the canary had {_rate(seen.bad, seen.attempts)}: {_bound(case, seen)}."


def _waiting(case: Case, place: str, seen: Seen) -> str:
    policy = case.criteria.rollback
    if passes(seen, policy.margin, policy.promotion_error):
        return _passing(case, place, seen)
    needed = f"{clean_answers_needed(policy.margin, policy.promotion_error, seen):,}"
    if not seen.attempts:
        return (
            f"In {place} the canary had no attempt yet: {needed} clean answers are needed to bound {_what(policy)} by {policy.margin:.2%}."
        )
    told = f"In {place} the canary had {_rate(seen.bad, seen.attempts)}"
    if policy.bound == "rate" and seen.bad / seen.attempts >= policy.margin:
        return f"{told}: more than the margin of {policy.margin:.2%} allows; {needed} more clean answers would be needed."
    return f"{told}: {_bound(case, seen)}; {needed} more clean answers are needed."


def _what(policy: Rollback) -> str:
    return "its rate" if policy.bound == "rate" else "its difference from stable"


def _bound(case: Case, seen: Seen) -> str:
    policy = case.criteria.rollback
    found = upper_bound(seen, policy.promotion_error, policy.bound)
    return f"{_what(policy)} is at most {found:.2%} (margin {policy.margin:.2%}, error level {policy.promotion_error:g})"


def _rate(bad: int, attempts: int) -> str:
    if not attempts:
        return "no attempt"
    return f"{bad:,} bad of {attempts:,} attempts ({bad / attempts:.2%})"


def _slow(slow: int, attempts: int) -> str:
    if not attempts:
        return "no attempt"
    return f"{slow:,} slow of {attempts:,} attempts ({slow / attempts:.2%})"
