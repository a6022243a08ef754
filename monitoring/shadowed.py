"""Judging a shadow by its own answers: copies of stable's requests that nobody sees, held against stable's answers.

The judge's test of harm holds for copies as well. Where answers fail by chance, a copy is one more request. Where the
requests themselves decide, stable fails B of them and the shadow the S of these that were copied, each with
probability f. With s = f/(1+f), the shadow's share of all attempts, and d = s*theta + 1-s, a bad request multiplies the
wealth by ((1-f)*d + f*theta)/d^2 on average, which is at most 1, for d^2 - (1-f)*d - f*theta = (s*(theta-1))^2.

A release has one error budget. A shadow that is judged takes its part of it, and the canary is left with the rest, so
that the two together convict a revision that is no worse with a probability of alpha at most.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from fleet.declared import Rollback
from fleet.evidence import Attempts, Verdict
from monitoring.criteria import Criteria
from monitoring.judge import judge
from monitoring.strata import CanaryEvidence

PART: Final = 0.1
"""Of the release's error budget: a shadow costs no caller anything, so it may take more answers to convict."""
SHADOW, LIVE = "shadow", "live"


@dataclass(frozen=True, slots=True)
class Copies:
    """What a shadow answered so far: copies, bad ones, and pairs of its and stable's answers to one request."""

    answers: int
    bad: int
    pairs: int
    disagreed: int

    @classmethod
    def of(cls, attempts: Attempts, revision: str) -> Copies:
        """Sum up what a revision answered as a shadow."""
        own = [count for count in attempts.counts if count.revision == revision and count.traffic == SHADOW]
        pairs = [pair for pair in attempts.pairs if pair.revision == revision]
        counted = sum(count.attempts for count in own), sum(count.bad for count in own)
        return cls(*counted, sum(pair.pairs for pair in pairs), sum(pair.disagreed for pair in pairs))


def judge_copies(criteria: Criteria, evidence: CanaryEvidence, now: datetime) -> Verdict:
    """Conclude from a shadow's own answers, at its part of the error budget; pairs are judged elsewhere.

    Raises InputError as `judge` does.
    """
    attempts = evidence.attempts
    counts = tuple(
        replace(count, traffic=LIVE)
        for count in attempts.counts
        if count.traffic == (SHADOW if count.revision == evidence.canary else LIVE)
    )
    policy = replace(criteria, rollback=with_part(criteria.rollback, PART), disagreement=None, harm_budget=None)
    return judge(policy, replace(evidence, attempts=Attempts(counts, attempts.complete_to)), now)


def with_part(rollback: Rollback, part: float) -> Rollback:
    """Return the limits with a part of their error budget."""
    return rollback.model_copy(update={"alpha": rollback.alpha * part})
