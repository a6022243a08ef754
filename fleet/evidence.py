"""What was observed and what was concluded: the values that cross between traffic and monitoring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """What one revision did in one region during one second, as one edge logged it.

    `second` is Unix time. `attempts` counts upstream attempts and requests that were routed to the revision and
    never got one; `bad` those without an answer or with a 5xx; `slow` the answers that outlasted the SLO's limit.
    """

    second: int
    edge: str
    model: str
    revision: str
    region: str
    attempts: int
    bad: int
    slow: int = 0
    traffic: str = "live"


@dataclass(frozen=True, slots=True)
class Attempts:
    """Counts per second, complete up to (not including) the second `complete_to`."""

    counts: tuple[AttemptCount, ...]
    complete_to: int

    def of(self, revision: str) -> Attempts:
        """Return the counts of one revision."""
        return Attempts(tuple(count for count in self.counts if count.revision == revision), self.complete_to)

    def total(self) -> int:
        """Attempts in all."""
        return sum(count.attempts for count in self.counts)

    def bad(self) -> int:
        """Bad attempts in all."""
        return sum(count.bad for count in self.counts)

    @classmethod
    def merged(cls, several: Iterable[Attempts]) -> Attempts:
        """Join the attempts of several edges; complete only as far as the slowest of them."""
        parts = list(several)
        counts = tuple(count for part in parts for count in part.counts)
        return cls(counts, min((part.complete_to for part in parts), default=0))


class Outcome(StrEnum):
    """What the judge concluded."""

    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    NOT_ENOUGH_DATA = "not enough data"


@dataclass(frozen=True, slots=True)
class RegionEvidence:
    """One region's figures behind a verdict; rates and shares lie in 0..1, e-values are 0 or more."""

    region: str
    canary_attempts: int
    canary_bad: int
    stable_attempts: int
    stable_bad: int
    harm: float
    upper_bound: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its reasons in plain words and the figures it rests on.

    `harm` is the release's e-value against "the canary is no worse"; `harm_limit` is where it rolls back.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    harm: float
    harm_limit: float
    regions: tuple[RegionEvidence, ...]


class GateOutcome(StrEnum):
    """What a gate said; `not applicable` only where the gate declares when."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer, with its reasons and the figures it looked at."""

    gate: str
    outcome: GateOutcome
    reasons: tuple[str, ...]
    figures: tuple[tuple[str, str], ...] = ()
