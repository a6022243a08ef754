"""A shadow judged by its own answers: harm is found, a shadow that is no worse is left alone, and alpha is not exceeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_canary import CANARY, ERRORS_ALONE, REGIONS, STABLE, START, at_most, moment

from fleet.declared import Rollback
from fleet.evidence import AttemptCount, Attempts, Outcome, PairCount, Verdict
from monitoring.criteria import Criteria
from monitoring.shadowed import PART, Copies, judge_copies, with_part
from monitoring.strata import CanaryEvidence

CRITERIA = Criteria(Rollback(margin=0.01, stakes=ERRORS_ALONE))


def second_of(second: int, region: str, stable: tuple[int, int], shadow: tuple[int, int]) -> list[AttemptCount]:
    """Return what both did in a second: attempts and bad ones of each."""
    place = AttemptCount(START + second, "edge-1", "employment", STABLE, region, *stable)
    return [place, replace(place, revision=CANARY, attempts=shadow[0], bad=shadow[1], traffic="shadow")]


def judged(counts: list[AttemptCount], seconds: int) -> Verdict:
    evidence = CanaryEvidence(CANARY, STABLE, Attempts(tuple(counts), START + seconds), REGIONS)
    return judge_copies(CRITERIA, evidence, moment(START + seconds + 1))


def everywhere(seconds: int, stable: tuple[int, int], shadow: tuple[int, int]) -> list[AttemptCount]:
    return [count for region in REGIONS for second in range(seconds) for count in second_of(second, region, stable, shadow)]


@pytest.mark.parametrize(
    ("shadow", "outcome"),
    [((20, 0), Outcome.PROMOTE), ((20, 4), Outcome.ROLL_BACK), ((1, 0), Outcome.NOT_ENOUGH_DATA)],
    ids=["clean", "bad", "too few"],
)
def test_a_shadows_own_answers_decide(shadow: tuple[int, int], outcome: Outcome) -> None:
    assert judged(everywhere(60, (20, 0), shadow), 60).outcome is outcome


def test_requests_that_callers_sent_the_revision_themselves_are_no_copies() -> None:
    pinned = [replace(count, traffic="pinned") if count.revision == CANARY else count for count in everywhere(60, (20, 0), (20, 0))]
    assert judged(pinned, 60).outcome is Outcome.NOT_ENOUGH_DATA
    live = [replace(count, traffic="live") for count in everywhere(60, (20, 0), (20, 20))]
    assert judged(live, 60).outcome is Outcome.NOT_ENOUGH_DATA


@pytest.mark.parametrize("fraction", [0.2, 1.0])
def test_requests_that_fail_on_both_sides_convict_no_shadow(fraction: float) -> None:
    """The requests themselves decide, so that whatever fails a copy has failed stable too."""
    rng = np.random.default_rng(11)
    convicted, runs = 0, 200
    for _ in range(runs):
        counts = []
        for second in range(120):
            bad = int(rng.binomial(40, 0.05))
            copied = int(rng.binomial(40 - bad, fraction)), int(rng.binomial(bad, fraction))
            counts += second_of(second, REGIONS[0], (40, bad), (sum(copied), copied[1]))
        convicted += judged(counts, 120).outcome is Outcome.ROLL_BACK
    assert convicted / runs <= at_most(PART * CRITERIA.rollback.alpha, runs)


def test_shadow_and_canary_share_one_error_budget() -> None:
    whole = CRITERIA.rollback
    assert with_part(whole, PART).alpha + with_part(whole, 1 - PART).alpha == pytest.approx(whole.alpha)
    assert judged(everywhere(60, (20, 0), (20, 0)), 60).harm_limit == pytest.approx(1 / (PART * whole.alpha))


def test_what_a_shadow_answered_is_summed_up_apart_from_everything_else() -> None:
    pair = PairCount(START, "edge-1", "employment", CANARY, REGIONS[0], 5, 2)
    others = [AttemptCount(START, "edge-1", "employment", CANARY, REGIONS[0], 9, 9, traffic="live")]
    attempts = Attempts((*everywhere(2, (7, 1), (3, 1)), *others), START + 2, (pair, replace(pair, revision=STABLE)))
    assert Copies.of(attempts, CANARY) == Copies(answers=18, bad=6, pairs=5, disagreed=2)
