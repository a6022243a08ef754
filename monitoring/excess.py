"""Is a rate above its limit? Bets for what has a limit of its own: the SLO's error rate, and shadow answers that disagree.

Against "each of the n events of a stratum happens with a conditional probability of at most p0" we bet on q > p0: each
one that happens multiplies the stake by q/p0, each one that does not by (1-q)/(1-p0). At p <= p0 the mean of that factor
is at most 1, so the wealth is a nonnegative supermartingale (Wald's likelihood ratio; Waudby-Smith & Ramdas, "Estimating
means of bounded random variables by betting", JRSS-B 86(1), 2024).
"""

from __future__ import annotations

import numpy as np

from monitoring.strata import Counts
from monitoring.wealth import Bets

# Each bet lies this far from the limit towards certainty, on the scale of odds.
ODDS = (1.5, 2.5, 6.0, 40.0)
WEIGHTS = (0.25, 0.25, 0.25, 0.25)

# A limit of nothing at all would turn one event into certainty, and a limit of everything can never be exceeded.
_SMALLEST, _LARGEST = 1e-6, 1 - 1e-6


def excess_bets(second: Counts, tried: Counts, happened: Counts, limit: float) -> Bets:
    """Bet that more than `limit` (0..1) of what was tried happens, stratum by stratum of one region."""
    allowed = min(max(limit, _SMALLEST), _LARGEST)
    odds = np.array(ODDS) * allowed / (1 - allowed)
    bet = odds / (1 + odds)
    if limit >= 1:
        return Bets(second, np.zeros((len(second), len(ODDS))))
    gain = happened[:, None] * np.log(bet / allowed) + (tried - happened)[:, None] * (np.log1p(-bet) - np.log1p(-allowed))
    return Bets(second, np.cumsum(gain, axis=0))
