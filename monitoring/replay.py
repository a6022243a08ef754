"""A whole canary judged at every second in one pass: what the judge would have said, and when, had it looked each second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fleet.evidence import Outcome
from monitoring.conviction import Evidence, process
from monitoring.criteria import Criteria
from monitoring.promotion import Course, course_of, log_e_values
from monitoring.strata import Counts, Floats
from monitoring.wealth import seconds_of


@dataclass(frozen=True, slots=True)
class Decided:
    """How a canary ended: the outcome, and the second at which it was reached (None: never, not enough data)."""

    outcome: Outcome
    second: int | None


def decide(criteria: Criteria, evidence: Evidence, promote_from: int) -> Decided:
    """Return what comes first: the limit of harm at any second, or a bound that passes at `promote_from` or later.

    Within the same second harm comes first, as in `judge`.
    """
    found = process(criteria, evidence)
    place = found.reached(criteria.limit)
    ends = [] if place is None else [int(found.seconds[place])]
    harmful = min(ends + _overspent(criteria, evidence), default=None)
    healthy = _healthy_from(criteria, evidence, promote_from)
    if harmful is not None and (healthy is None or harmful <= healthy):
        return Decided(Outcome.ROLL_BACK, harmful)
    if healthy is not None:
        return Decided(Outcome.PROMOTE, healthy)
    return Decided(Outcome.NOT_ENOUGH_DATA, None)


def _overspent(criteria: Criteria, evidence: Evidence) -> list[int]:
    """Return the second in which the harm budget was spent, if it ever was."""
    if criteria.harm_budget is None:
        return []
    seconds = seconds_of([strata.second for strata in evidence.strata.values()])
    bad = [_held(course_of(strata, "rate"), strata.second, seconds).bad for strata in evidence.strata.values()]
    found = np.flatnonzero(np.sum(bad, axis=0) >= criteria.harm_budget)
    return [int(seconds[found[0]])] if len(found) else []


def _healthy_from(criteria: Criteria, evidence: Evidence, promote_from: int) -> int | None:
    """Return the first second, `promote_from` or later, at which every bound passes."""
    policy = criteria.rollback
    seconds = seconds_of([*(strata.second for strata in evidence.strata.values()), np.array([promote_from])])
    courses = [_held(course_of(strata, policy.bound), strata.second, seconds) for strata in evidence.strata.values()]
    tried = np.stack([course.attempts > 0 for course in courses])
    if policy.scope == "traffic":
        courses = [_together(courses)]
    logs = np.stack([log_e_values(course, policy.margin) for course in courses])
    passed = (logs >= -np.log(policy.promotion_error)).all(axis=0) & tried.all(axis=0) & (seconds >= promote_from)
    found = np.flatnonzero(passed)
    return int(seconds[found[0]]) if len(found) else None


def _held(course: Course, own: Counts, seconds: Counts) -> Course:
    """Hold a region's sums constant between its own strata."""
    last = np.searchsorted(own, seconds, side="right")
    return Course(_from_zero(course.attempts)[last], _from_zero(course.bad)[last], _from_zero(course.credit)[last])


def _from_zero(sums: Floats) -> Floats:
    return np.concatenate([np.zeros((1, *sums.shape[1:])), sums])


def _together(courses: list[Course]) -> Course:
    return Course(
        np.sum([course.attempts for course in courses], axis=0),
        np.sum([course.bad for course in courses], axis=0),
        np.sum([course.credit for course in courses], axis=0),
    )
