"""Whether a share of the traffic that was asked for is the share that was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fleet.evidence import Attempts

DEVIATIONS = 5.0
LATEST_SECONDS = 30
"""The share that is seen now, not the one over a whole step: an edge may have left its shares for a while."""


@dataclass(frozen=True, slots=True)
class MeasuredShare:
    """The share of a revision's attempts, 0..1.

    `real` says whether it fits what was asked for and was seen at all, `unlike` whether there were enough attempts to
    say that it does not fit.
    """

    measured: float
    attempts: int
    real: bool
    unlike: bool = False


def measured_share(attempts: Attempts, revision: str, since: int, percent: int, by_caller: bool = False) -> MeasuredShare:
    """Compare a revision's share of the attempts since a second with the percentage that was asked for.

    Live attempts of complete seconds alone are looked at. It is real when the revision had attempts and their number
    lies within five standard deviations of the binomial count, plus one attempt, that the percentage makes one
    expect. Where callers are dealt out instead of requests (`by_caller`), nobody knows how many callers there are: it is
    real when both revisions had attempts. No attempts at all is never real.
    """
    seen = [count for count in attempts.counts if since <= count.second < attempts.complete_to and count.traffic == "live"]
    total = sum(count.attempts for count in seen)
    own = sum(count.attempts for count in seen if count.revision == revision)
    wanted = percent / 100
    slack = DEVIATIONS * math.sqrt(total * wanted * (1 - wanted)) + 1
    fits = total > own if by_caller else abs(own - total * wanted) <= slack
    return MeasuredShare(own / total if total else 0.0, total, own > 0 and fits, not (fits or by_caller))
