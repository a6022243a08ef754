"""Does the canary do more harm than stable? An anytime-valid sequential test on counted events.

Events are bad attempts or slow answers, each caller's burst counted once. In a stratum (region, edge, second) with E
events and the canary's measured share s of all attempts, a canary whose odds ratio is theta has about
Binomial(E, s*theta / (s*theta + 1-s)) of them. The evidence against "theta is at most theta0" is the likelihood ratio
of theta > theta0 against theta0, multiplied over the strata and mixed over theta (Lindon & Malek, "Anytime-Valid
Inference for Multinomial Count Data", NeurIPS 2022, arXiv 2011.03567). Rates may change at will: every stratum is
judged given its own E and s, so weight steps and daily waves cancel.

Why it is valid for every theta <= theta0, at any error rate. Events are drawn from finitely many attempts, so
the exact law is not the binomial but Fisher's noncentral hypergeometric, with generating function P(t*theta)/P(theta),
P(t) = sum_x C(canary, x) C(stable, E-x) t^x. There an attempt of the canary is an event at most t times as probably as one of stable
(t >= 1), so the mean t*P'(t)/P(t) is at most E*s*t/(s*t + 1-s), the mean of the binomial; hence P(t)/(s*t + 1-s)^E
falls in t >= 1, and the mean of our ratio under theta0, P(theta)/P(theta0) * ((s*theta0 + 1-s)/(s*theta + 1-s))^E,
is at most 1. (For theta0 = 1 this is Hoeffding 1963, theorem 4: drawing without replacement is less spread.) The ratio
grows with the canary's events, and a smaller theta has fewer of them (monotone likelihood ratio), so its mean is
at most 1 there too. Where events are many the binomial only gives evidence away; it never invents any. What is assumed:
the router deals requests out by chance, one by one. A caller whose retries stick to one revision breaks that, so its burst
counts once: its first event of the second, whichever revision it met.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitoring.strata import Strata
from monitoring.wealth import Bets

Event = Literal["bad_once", "slow_once"]


@dataclass(frozen=True, slots=True)
class Mixture:
    """The odds ratios that are bet on, as multiples (> 1) of the largest one allowed, with weights that sum to 1."""

    multiples: tuple[float, ...]
    weights: tuple[float, ...]


# Small multiples catch slow harm; the large ones let a canary that errs where stable never does stand out after a few events.
MIXTURE = Mixture(multiples=(1.5, 2, 3, 8, 50), weights=(0.2, 0.4, 0.2, 0.1, 0.1))


def harm_bets(strata: Strata, odds_ratio: float, event: Event = "bad_once", mixture: Mixture = MIXTURE) -> Bets:
    """Bet on each multiple of the odds ratio in one region.

    Where only one revision was tried (a share of 0 or 1), all terms cancel: such a stratum says nothing.
    """
    canary, stable = getattr(strata.canary, event), getattr(strata.stable, event)
    share = strata.share()
    odds = odds_ratio * np.array(mixture.multiples)
    normaliser = np.log1p(share * (odds_ratio - 1))[:, None] - np.log1p(share[:, None] * (odds - 1))
    ratios = canary[:, None] * np.log(odds / odds_ratio) + (canary + stable)[:, None] * normaliser
    return Bets(strata.second, np.cumsum(ratios, axis=0))
