"""What no judge can know: Wald's sequential test of the very difference that is there.

It knows the canary's true odds of a bad answer against stable's and its true share, and tests nothing else, one-sided at
alpha (Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16(2), 1945). So it
needs the fewest requests on the same counts: the floor that a judge is measured against, who has to look for any harm.
"""

from __future__ import annotations

import numpy as np

from benchmarks.judging.simulator import Floats, Ints


def log_ratio(canary_bad: Ints, stable_bad: Ints, share: Floats, odds_ratio: float) -> Floats:
    """Return the logarithm of the likelihood ratio after each second, at one place with that true share."""
    gained = canary_bad * np.log(odds_ratio) - (canary_bad + stable_bad) * np.log1p(share * (odds_ratio - 1))
    return np.asarray(np.cumsum(gained), dtype=np.float64)


def odds_ratio_of(errors: float, times: float) -> float:
    """Return the odds ratio of `times` as many errors."""
    return (errors * times / (1 - errors * times)) / (errors / (1 - errors))
