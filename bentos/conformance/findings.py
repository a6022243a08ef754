"""What was found of each rule of a contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What can be said of a rule."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"  # it could not be told, which is no pass
    NOT_APPLICABLE = "not applicable"  # the rule is about an image, and a server was asked


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of one contract, what was found, and why."""

    contract: str
    rule: str
    outcome: Outcome
    reason: str


def conforms(findings: Iterable[Finding]) -> bool:
    """Say whether nothing failed and nothing stayed open."""
    return not any(found.outcome in (Outcome.FAILED, Outcome.INCONCLUSIVE) for found in findings)
