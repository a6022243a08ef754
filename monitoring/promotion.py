"""Is the canary good enough? An anytime-valid upper bound of its bad-answer rate, by betting.

Against "every attempt is bad with probability p0 at least, whatever came before" we bet on smaller rates q: each
attempt multiplies the stake by q/p0 if bad and by (1-q)/(1-p0) if not. At a conditional rate p >= p0 the expected
factor is at most 1, so the stake is a nonnegative supermartingale, and so is a mixture over q; it ever reaches
1/error with a chance of at most error (Ville). The rates p0 that it rules out lie above an upper bound that holds at all
looks at once (Waudby-Smith & Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86(1), 2024).
Half of the stake is all in on q = 0: a clean canary wins 1/(1-p0) per answer.

What is guaranteed, exactly: a canary whose conditional rate is `margin` or more at every attempt, constant or not, is
ever promoted with a probability of at most `promotion_error`. Rates that only average to the margin are covered at a
look fixed in advance, for independent attempts (inequality of the means), not at all looks: a canary that is
clean first and bad later may pass while it is clean. Nothing is said about the time after the verdict.

Every region must pass, each at the full error level. That is an intersection-union test: promoting wrongly means that some
region's rate is at the margin or above, and that region's own test alone makes it improbable (Berger, "Multiparameter
hypothesis testing and acceptance sampling", Technometrics 24(4), 1982).
"""

from __future__ import annotations

import math

# The rates q that are bet on, as fractions of p0, and their stakes.
_BETS = ((0.0, 1 / 2), (0.12, 1 / 6), (0.3, 1 / 6), (0.6, 1 / 6))


def log_e_value(attempts: int, bad: int, rate: float) -> float:
    """Return the logarithm of the evidence that the bad-answer rate is below `rate` (0 < rate < 1)."""
    clean = attempts - bad
    logs = [
        math.log(stake) + (bad * math.log(fraction) if bad else 0.0) + clean * (math.log1p(-fraction * rate) - math.log1p(-rate))
        for fraction, stake in _BETS
        if fraction or not bad
    ]
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs))


def passes(attempts: int, bad: int, margin: float, error: float) -> bool:
    """Whether the upper bound at error level `error` lies at or below `margin`."""
    return log_e_value(attempts, bad, margin) >= -math.log(error)


def upper_bound(attempts: int, bad: int, error: float) -> float:
    """Return the smallest rate that is ruled out at error level `error`; 1.0 when none is.

    The evidence grows with the rate, so bisection finds it.
    """
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if passes(attempts, bad, middle, error):
            high = middle
        else:
            low = middle
    return high
