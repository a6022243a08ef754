"""The judge: three outcomes with reasons, from counts as the edges report them."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from simulated_canary import CANARY, ERRORS_ALONE, REGIONS, STABLE, START, Place, counts_of, evidence_of, moment, simulate, steady, steps

from fleet.declared import Rollback
from fleet.errors import InputError
from fleet.evidence import AttemptCount, Outcome, Verdict
from monitoring.judge import STALE_SECONDS, CanaryEvidence, Criteria, judge
from monitoring.strata import Strata

POLICY = Rollback(alpha=0.05, odds_ratio=1.0, margin=0.01, promotion_error=0.05, stakes=ERRORS_ALONE)
END = START + 200
CLEAN = steady(200, 2, 15)


def verdict_on(*of_regions: Strata, policy: Rollback = POLICY, complete_to: int = END) -> Verdict:
    counts = [count for region, strata in zip(REGIONS, of_regions, strict=True) for count in counts_of(region, strata)]
    return judge(Criteria(policy), evidence_of(counts, complete_to), moment(complete_to + 2))


def test_a_clean_canary_with_enough_answers_in_every_region_is_promoted() -> None:
    verdict = verdict_on(CLEAN, CLEAN, CLEAN)
    assert verdict.outcome is Outcome.PROMOTE
    assert verdict.reasons[0] == "No evidence of harm: 1 of the limit 20.0 (1/alpha, alpha 0.05)."
    assert verdict.reasons[1] == (
        "In aws-us-east-1 the canary had 0 bad of 400 attempts (0.00%): its rate is at most 0.84% (margin 1.00%, error level 0.05)."
    )
    assert all(region.upper_bound < POLICY.margin for region in verdict.regions)


def test_one_region_that_still_lacks_answers_holds_the_promotion_and_says_how_many() -> None:
    verdict = verdict_on(CLEAN, steady(100, 1, 16), CLEAN)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert any("In gcp-europe-west4" in reason and "236 more clean answers are needed" in reason for reason in verdict.reasons)
    long = steady(336, 1, 16)
    assert verdict_on(long, long, long, complete_to=START + 335).outcome is Outcome.NOT_ENOUGH_DATA
    assert verdict_on(long, long, long, complete_to=START + 336).outcome is Outcome.PROMOTE


def test_harm_rolls_back_with_the_second_the_value_the_limit_and_the_worst_region_first() -> None:
    verdict = verdict_on(CLEAN, steady(200, 2, 15, canary_bad=1), CLEAN)
    assert verdict.outcome is Outcome.ROLL_BACK
    assert verdict.harm >= verdict.harm_limit == 20
    assert "reached the limit 20.0 (1/alpha, alpha 0.05) at 2026-" in verdict.reasons[0]
    assert verdict.reasons[1].startswith(
        "In gcp-europe-west4 the canary had 200 bad of 400 attempts (50.00%), stable 0 bad of 3,000 attempts (0.00%)"
    )


def test_harm_comes_before_a_bound_that_would_promote() -> None:
    """A canary below the margin, but clearly worse than a stable that never errs."""
    counts = [count for region in REGIONS for count in counts_of(region, steady(3000, 1, 19))]
    counts = [replace(count, bad=1) if count.revision == CANARY and count.second % 250 == 0 else count for count in counts]
    verdict = judge(Criteria(POLICY), evidence_of(counts, START + 3000), moment(START + 3000))
    assert all(region.upper_bound < POLICY.margin for region in verdict.regions)
    assert verdict.outcome is Outcome.ROLL_BACK


def test_a_canary_as_bad_as_stable_is_neither_rolled_back_nor_promoted() -> None:
    same = steady(200, 5, 5, canary_bad=1, stable_bad=1)
    verdict = verdict_on(same, same, same)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert any("more than the margin of 1.00% allows" in reason for reason in verdict.reasons)


def test_a_canary_that_was_never_tried_is_not_enough_data_and_never_harm() -> None:
    silent = steady(200, 0, 17, stable_bad=1)
    verdict = verdict_on(silent, silent, silent)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert verdict.harm == pytest.approx(1)
    assert "In aws-us-east-1 the canary had no attempt yet: 336 clean answers are needed to bound its rate by 1.00%." in verdict.reasons
    assert {region.upper_bound for region in verdict.regions} == {1.0}


def test_a_region_that_nobody_tried_is_never_promoted_by_the_others() -> None:
    """A bound over all traffic says nothing of a place without any."""
    policy = POLICY.model_copy(update={"scope": "traffic"})
    long, silent = steady(400, 2, 15), steady(400, 0, 17)
    verdict = verdict_on(long, silent, long, policy=policy, complete_to=START + 400)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert "The canary had no attempt yet in gcp-europe-west4: it is not promoted there unseen." in verdict.reasons
    assert verdict_on(long, long, long, policy=policy, complete_to=START + 400).outcome is Outcome.PROMOTE


def test_regions_with_too_few_answers_each_pass_together_where_that_is_declared() -> None:
    few = steady(150, 1, 16)
    policy = POLICY.model_copy(update={"scope": "traffic"})
    assert verdict_on(few, few, few, complete_to=START + 150).outcome is Outcome.NOT_ENOUGH_DATA
    verdict = verdict_on(few, few, few, policy=policy, complete_to=START + 150)
    assert verdict.outcome is Outcome.PROMOTE
    assert "In all regions together the canary had 0 bad of 450 attempts (0.00%): its rate is at most 0.75%" in verdict.reasons[1]


def test_a_region_that_alone_shows_the_harm_is_named() -> None:
    alone = verdict_on(CLEAN, steady(200, 2, 15, canary_bad=1), steady(200, 2, 15, stable_bad=1))
    everywhere = verdict_on(*(steady(200, 2, 15, canary_bad=1),) * 3)
    assert alone.only_in == ""
    worse = steady(200, 2, 15, stable_bad=1)
    alone = verdict_on(worse, steady(200, 2, 15, canary_bad=2), worse)
    assert alone.only_in == "gcp-europe-west4"
    assert alone.reasons[0].startswith("The canary gives more bad answers than stable, only in gcp-europe-west4: evidence of harm")
    assert everywhere.only_in == ""


def test_a_canary_no_worse_than_an_erring_stable_passes_where_the_difference_is_bounded() -> None:
    rng = np.random.default_rng(41)
    both = [simulate(rng, Place(17, 0.03), np.full(1800, 0.4)) for _ in REGIONS]
    policy = Rollback(margin=0.02, bound="difference", scope="traffic", stakes=ERRORS_ALONE)
    verdict = verdict_on(*both, policy=policy, complete_to=START + 1800)
    assert verdict.outcome is Outcome.PROMOTE
    assert "its difference from stable is at most" in verdict.reasons[1]
    assert verdict_on(*both, policy=POLICY, complete_to=START + 1800).outcome is Outcome.NOT_ENOUGH_DATA


def test_a_caller_that_tries_again_and_again_counts_once() -> None:
    """One caller's burst of bad answers by the canary in one second: certain harm if each counted, next to nothing as one event."""
    counts = [count for region in REGIONS for count in counts_of(region, steady(200, 10, 90))]
    burst = next(count for count in counts if count.revision == CANARY and count.second == START + 50)
    told_apart = [replace(count, bad=10, bad_bursts=1) if count is burst else count for count in counts]
    each = [replace(count, bad=10) if count is burst else count for count in counts]
    assert judge(Criteria(POLICY), evidence_of(each, END), moment(END)).outcome is Outcome.ROLL_BACK
    found = judge(Criteria(POLICY), evidence_of(told_apart, END), moment(END))
    assert found.outcome is not Outcome.ROLL_BACK
    assert found.regions[0].canary_bad == 10, "the bound of its rate counts all of them"


def test_a_canary_that_has_cost_what_it_may_is_rolled_back_though_it_is_no_worse() -> None:
    same = steady(200, 5, 5, canary_bad=1, stable_bad=1)
    counts = [count for region in REGIONS for count in counts_of(region, same)]
    verdict = judge(Criteria(POLICY, harm_budget=600), evidence_of(counts, END), moment(END))
    assert verdict.outcome is Outcome.ROLL_BACK
    assert verdict.reasons[0] == "The harm budget is spent: the canary gave 600 bad answers of the 600 that it may give."
    assert judge(Criteria(POLICY, harm_budget=601), evidence_of(counts, END), moment(END)).outcome is Outcome.NOT_ENOUGH_DATA


def test_no_counts_at_all_is_not_enough_data() -> None:
    verdict = judge(Criteria(POLICY), evidence_of([], 0), moment(START))
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert verdict.reasons[0] == "No edge has reported complete counts yet."
    assert [region.region for region in verdict.regions] == list(REGIONS)


def test_requests_routed_to_a_dead_canary_that_never_became_attempts_roll_it_back() -> None:
    """The edge counts each as one bad attempt."""
    dead = steady(30, 1, 16, canary_bad=1)
    assert verdict_on(steady(30, 1, 16), dead, steady(30, 1, 16), complete_to=START + 30).outcome is Outcome.ROLL_BACK


def test_a_region_without_stable_attempts_is_named_as_blind_and_still_bounded() -> None:
    verdict = verdict_on(CLEAN, steady(200, 2, 0, canary_bad=2), CLEAN)
    assert verdict.outcome is Outcome.NOT_ENOUGH_DATA
    assert verdict.regions[1].harm == pytest.approx(1)
    blind = "only 0 of the canary's 400 attempts fell into a second in which stable had one too: harm can hardly be seen there."
    assert verdict.reasons[-1] == f"In gcp-europe-west4 {blind}"
    assert verdict_on(CLEAN, steady(200, 2, 0), CLEAN).outcome is Outcome.PROMOTE


def test_counts_that_some_edge_has_not_completed_are_not_judged() -> None:
    early = verdict_on(*(steady(200, 2, 15, canary_bad=1),) * 3, complete_to=START)
    assert early.outcome is Outcome.NOT_ENOUGH_DATA
    assert sum(region.canary_attempts for region in early.regions) == 0


def test_counts_that_ended_too_long_ago_never_promote_but_still_roll_back() -> None:
    later = moment(END + int(STALE_SECONDS) + 10)
    clean = [count for region in REGIONS for count in counts_of(region, CLEAN)]
    stale = judge(Criteria(POLICY), evidence_of(clean, END), later)
    assert stale.outcome is Outcome.NOT_ENOUGH_DATA
    assert stale.reasons[0] == "The counts are complete only up to 40 s ago (limit 30 s): an edge has stopped reporting."
    harmful = [count for region in REGIONS for count in counts_of(region, steady(200, 2, 15, canary_bad=1))]
    assert judge(Criteria(POLICY), evidence_of(harmful, END), later).outcome is Outcome.ROLL_BACK


def test_shadow_traffic_and_other_revisions_are_not_judged() -> None:
    counts = [count for region in REGIONS for count in counts_of(region, CLEAN)]
    shadow = [replace(count, bad=count.attempts, traffic="shadow") for count in counts if count.revision == CANARY]
    older = [replace(count, bad=count.attempts, revision="sha256:" + "0" * 64) for count in counts]
    clean = judge(Criteria(POLICY), evidence_of(counts, END), moment(END))
    assert judge(Criteria(POLICY), evidence_of(counts + shadow + older, END), moment(END)) == clean


def test_edges_with_different_error_rates_are_never_summed() -> None:
    """Identical revisions; the edge with many errors sends the canary more. One sum would convict it."""
    rng = np.random.default_rng(3)
    shares = np.full(300, 0.2)
    calm = simulate(rng, Place(20, 0.01, share_factor=0.2), shares)
    rough = simulate(rng, Place(20, 0.15, share_factor=2), shares)
    apart = counts_of(REGIONS[0], calm, "edge-1") + counts_of(REGIONS[0], rough, "edge-2")
    summed = [replace(count, edge="edge-1") for count in apart]
    assert judge(Criteria(POLICY), evidence_of(apart, END + 100, REGIONS[:1]), moment(END + 100)).outcome is Outcome.NOT_ENOUGH_DATA
    assert judge(Criteria(POLICY), evidence_of(summed, END + 100, REGIONS[:1]), moment(END + 100)).outcome is Outcome.ROLL_BACK


def test_the_order_in_which_counts_arrive_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    counts = [count for region in REGIONS for count in counts_of(region, simulate(rng, Place(17, 0.03), np.full(200, 0.25)))]
    shuffled = random.Random(4).sample(counts, len(counts))
    assert judge(Criteria(POLICY), evidence_of(counts, END), moment(END)) == judge(
        Criteria(POLICY), evidence_of(shuffled, END), moment(END)
    )


def test_a_rollback_is_the_same_whenever_one_looks_after_it() -> None:
    """Asked every second, the judge convicts at the second that it names when asked at the end."""
    rng = np.random.default_rng(5)
    shares = steps(5, 25, 50, seconds=60)
    counts = [count for region in REGIONS for count in counts_of(region, simulate(rng, Place(17, 0.02, odds_ratio=6), shares))]
    looks = [judge(Criteria(POLICY), evidence_of(counts, START + second), moment(START + second)) for second in range(1, 181)]
    rolled_back = [look for look in looks if look.outcome is Outcome.ROLL_BACK]
    first = looks.index(rolled_back[0])
    assert 0 < first < 179
    assert looks[first:] == rolled_back
    assert {(look.harm, look.reasons[0]) for look in rolled_back} == {(looks[-1].harm, looks[-1].reasons[0])}


def test_the_odds_ratio_that_is_allowed_is_allowed() -> None:
    rng = np.random.default_rng(6)
    twice = [simulate(rng, Place(17, 0.02, odds_ratio=1.8), np.full(1800, 0.5)) for _ in REGIONS]
    tolerant = POLICY.model_copy(update={"odds_ratio": 2.0})
    assert verdict_on(*twice, complete_to=START + 1800).outcome is Outcome.ROLL_BACK
    assert verdict_on(*twice, policy=tolerant, complete_to=START + 1800).outcome is Outcome.NOT_ENOUGH_DATA


def test_every_figure_of_a_verdict_is_finite() -> None:
    """The ledger's JSON knows no infinity."""
    for strata in (steady(200, 1000, 100_000, canary_bad=1000), steady(200, 0, 0), steady(200, 3, 0, canary_bad=3)):
        verdict = verdict_on(strata, strata, strata)
        figures = [verdict.harm, verdict.harm_limit, *(value for region in verdict.regions for value in (region.harm, region.upper_bound))]
        assert all(math.isfinite(figure) for figure in figures)


@pytest.mark.parametrize(("attempts", "bad"), [(3, 4), (3, -1), (-1, -1)])
def test_counts_that_contradict_themselves_are_refused(attempts: int, bad: int) -> None:
    count = AttemptCount(START, "edge-1", "employment", CANARY, REGIONS[0], attempts, bad)
    with pytest.raises(InputError, match=f"{bad} bad of {attempts} attempts"):
        judge(Criteria(POLICY), evidence_of([count], END), moment(END))


def test_counts_of_a_region_that_is_not_judged_are_refused() -> None:
    count = AttemptCount(START, "edge-1", "employment", STABLE, "mars", 1, 0)
    with pytest.raises(InputError, match=r"region mars.*known: aws-us-east-1"):
        judge(Criteria(POLICY), evidence_of([count], END), moment(END))


def test_evidence_that_cannot_be_judged_is_refused() -> None:
    attempts = evidence_of([], END).attempts
    with pytest.raises(InputError, match="canary and stable at once"):
        CanaryEvidence(CANARY, CANARY, attempts, REGIONS)
    for regions in ((), (REGIONS[0], REGIONS[0])):
        with pytest.raises(InputError, match="named, each once"):
            CanaryEvidence(CANARY, STABLE, attempts, regions)
    with pytest.raises(InputError, match="no time zone"):
        judge(Criteria(POLICY), evidence_of([], END), datetime(2026, 11, 22, 12, 0))  # noqa: DTZ001 - the point
