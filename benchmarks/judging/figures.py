"""From endings to rows of the one form: shares with their interval, medians with their quartiles, ratios with their spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from scipy.stats import beta

from benchmarks.form import Row
from benchmarks.judging import convoy
from benchmarks.judging.releases import CONVOY, ERRORS_ONLY, ORACLE, Endings
from benchmarks.judging.scenarios import Kind, Scenario
from benchmarks.judging.simulator import Floats

ROLLED_BACK, PROMOTED, NO_VERDICT = "% rolled back", "% promoted", "% without a verdict"
REQUESTS, MINUTES = "canary requests until rollback", "minutes until rollback"
LET_THROUGH = "% not rolled back"
TIMES = "times the oracle's requests"

MOST_FALSE = 100 * convoy.ALPHA
MOST_MISSED = 1.0
MOST_TIMES = {ERRORS_ONLY: 1.25, CONVOY: 1.7}
_RESAMPLED = 400


def rows_of(scenario: Scenario, ended: Mapping[str, Endings]) -> Iterator[Row]:
    """Return every figure of one row's releases."""
    for subject, endings in ended.items():
        promised = scenario.kind is Kind.IDENTICAL and subject in (CONVOY, ERRORS_ONLY)
        rolled_back, promoted = np.array(endings.rolled_back), np.array(endings.promoted)
        yield share(scenario.title, subject, rolled_back, ROLLED_BACK, MOST_FALSE if promised else None)
        yield share(scenario.title, subject, promoted, PROMOTED)
        yield share(scenario.title, subject, ~(rolled_back | promoted), NO_VERDICT)
        if rolled_back.any():
            yield median(scenario.title, subject, np.array(endings.exposed)[rolled_back], REQUESTS)
            yield median(scenario.title, subject, np.array(endings.minutes)[rolled_back], MINUTES)


def asked_of(scenario: Scenario, ended: Mapping[str, Endings], with_targets: bool) -> Iterator[Row]:
    """Return what was asked for of a row with an oracle: how much gets through, and how many times the oracle's requests it takes."""
    for subject, most in MOST_TIMES.items():
        through = ~np.array(ended[subject].rolled_back)
        yield share(scenario.title, subject, through, LET_THROUGH, MOST_MISSED if with_targets else None)
        yield ratio(scenario.title, subject, ended[subject], ended[ORACLE], most if with_targets else None)


def share(row: str, subject: str, happened: Floats, unit: str, target: float | None = None) -> Row:
    """Return a share of releases in percent, with its exact interval at 95 % (Clopper and Pearson)."""
    size, count = len(happened), int(happened.sum())
    low = 0.0 if count == 0 else float(beta.ppf(0.025, count, size - count + 1))
    high = 1.0 if count == size else float(beta.ppf(0.975, count + 1, size - count))
    return Row(row, subject, round(100 * count / size, 2), unit, (round(100 * low, 2), round(100 * high, 2)), size, target)


def median(row: str, subject: str, values: Floats, unit: str) -> Row:
    """Return a median over the releases that were rolled back, with its quartiles."""
    low, middle, high = (round(float(value), 1) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return Row(row, subject, middle, unit, (low, high), len(values))


def ratio(row: str, subject: str, judged: Endings, floor: Endings, target: float | None = None) -> Row:
    """Return the ratio of the medians of all releases, with its bootstrap interval at 95 %; who missed, exposed everything."""
    ours, theirs = _exposed(judged), _exposed(floor)
    picks = np.random.default_rng(len(ours)).integers(0, len(ours), (_RESAMPLED, len(ours)))
    drawn = np.median(ours[picks], axis=1) / np.median(theirs[picks], axis=1)
    low, high = (round(float(value), 3) for value in np.quantile(drawn, [0.025, 0.975]))
    return Row(row, subject, round(float(np.median(ours) / np.median(theirs)), 3), TIMES, (low, high), len(ours), target)


def _exposed(endings: Endings) -> Floats:
    """Return each release's exposure; where nothing was stopped it is all that the canary served."""
    return np.array(endings.exposed)
