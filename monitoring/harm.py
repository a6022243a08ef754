"""Is the canary worse than stable? An anytime-valid sequential test on bad attempts.

In a stratum (region, edge, second) with E bad attempts and the canary's measured share s of all attempts, a canary
whose odds ratio is theta has about Binomial(E, s*theta / (s*theta + 1-s)) of them. The evidence against "theta is at
most theta0" is the likelihood ratio of theta > theta0 against theta0, multiplied over the strata and mixed over
theta (Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022, arXiv 2011.03567). Rates
may change at will: every stratum is judged given its own E and s, so weight steps and daily waves cancel.

Why it is valid for every theta <= theta0, at any error rate. Bad attempts are drawn from finitely many attempts, so
the exact law is not the binomial but Fisher's noncentral hypergeometric, with generating function P(t*theta)/P(theta),
P(t) = sum_x C(canary, x) C(stable, E-x) t^x. There an attempt of the canary is bad at most t times as probably as one of stable
(t >= 1), so the mean t*P'(t)/P(t) is at most E*s*t/(s*t + 1-s), the mean of the binomial; hence P(t)/(s*t + 1-s)^E
falls in t >= 1, and the mean of our ratio under theta0, P(theta)/P(theta0) * ((s*theta0 + 1-s)/(s*theta + 1-s))^E,
is at most 1. (For theta0 = 1 this is Hoeffding 1963, theorem 4: drawing without replacement is less spread.) The ratio
grows with the canary's bad attempts, and a smaller theta has fewer of them (monotone likelihood ratio), so its mean is
at most 1 there too. So each product is a nonnegative supermartingale, their mixture as well, and Ville's inequality
bounds the chance that it ever reaches 1/alpha by alpha, however often one looks. Where errors are many the binomial
only gives evidence away; it never invents any. What is assumed: the router deals requests out by chance, one by one.
A caller whose retries stick to one revision breaks that.

Regions combine by the average of their e-values, not by the product. The average of e-values is an e-value under any
dependence (Vovk & Wang, "E-values: calibration, combination and applications", Annals of Statistics 49(3), 2021),
and so is the average of the regions' processes at any moment; a product needs regions that are independent given the
past, which one caller or one backend behind several regions breaks. The product would also let healthy regions, whose
e-values sink towards 0, outweigh harm in a single one; in the average they cost at most a factor, their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from monitoring.strata import Counts, Strata

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mixture:
    """The odds ratios that are bet on, as multiples (> 1) of the largest one allowed, with weights that sum to 1."""

    multiples: tuple[float, ...]
    weights: tuple[float, ...]


# Small multiples catch slow harm; the large ones let a canary that errs where stable never does stand out after a few bad attempts.
MIXTURE = Mixture(multiples=(1.5, 2, 3, 6, 20, 100), weights=(0.20, 0.25, 0.20, 0.15, 0.10, 0.10))

# Beyond this the number says nothing more, and no float or JSON overflows.
_LARGEST_LOG = 690.0


@dataclass(frozen=True, slots=True)
class Harm:
    """The evidence of harm: e-values of the release and of each region, and the second at which the limit was reached.

    The process stops when it reaches its limit, so the same counts convict whenever one looks; until then `second` is
    None and the e-values are the latest.
    """

    value: float
    regions: tuple[float, ...]
    second: int | None


def log_e_process(strata: Strata, odds_ratio: float, mixture: Mixture = MIXTURE) -> Floats:
    """Return the logarithm of a region's e-value after each of its strata.

    Where only one revision was tried (a share of 0 or 1), all terms cancel: such a stratum says nothing.
    """
    share = strata.share()
    odds = odds_ratio * np.array(mixture.multiples)
    normaliser = np.log1p(share * (odds_ratio - 1))[:, None] - np.log1p(share[:, None] * (odds - 1))
    bad = strata.canary_bad + strata.stable_bad
    ratios = strata.canary_bad[:, None] * np.log(odds / odds_ratio) + bad[:, None] * normaliser
    bets = np.cumsum(ratios, axis=0) + np.log(mixture.weights)
    return np.asarray(np.logaddexp.reduce(bets, axis=1), dtype=np.float64)


def harm(regions: Sequence[Strata], odds_ratio: float, limit: float) -> Harm:
    """Combine the regions' processes second by second and stop at the first one that reaches `limit`."""
    seconds = np.unique(np.concatenate([strata.second for strata in regions]))
    if not len(seconds):
        return Harm(1.0, (1.0,) * len(regions), None)
    logs = np.stack([_at(seconds, strata.second, log_e_process(strata, odds_ratio)) for strata in regions])
    combined = np.logaddexp.reduce(logs, axis=0) - np.log(len(regions))
    reached = np.flatnonzero(combined >= np.log(limit))
    place = int(reached[0]) if len(reached) else -1
    values = tuple(_e_value(value) for value in logs[:, place])
    return Harm(_e_value(combined[place]), values, int(seconds[place]) if len(reached) else None)


def _at(seconds: Counts, own: Counts, logs: Floats) -> Floats:
    """Hold a region's process constant between its own strata; before the first its e-value is 1."""
    last = np.searchsorted(own, seconds, side="right")
    return np.concatenate([[0.0], logs])[last]


def _e_value(log: float) -> float:
    return float(np.exp(min(log, _LARGEST_LOG)))
