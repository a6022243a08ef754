"""What was observed and what was concluded: the values that cross between traffic and monitoring."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """What one revision did in one region during one second, as one edge logged it.

    `second` is Unix time. `attempts` counts upstream attempts and requests that were routed to the revision and
    never got one; `bad` those without an answer or with a 5xx; `slow` the answers that outlasted the SLO's limit.
    `bad_bursts` and `slow_bursts` count one such attempt of each caller in the second, drawn over all revisions at that
    edge without regard to them, so that one caller who tries again and again is one event (None: nobody told callers
    apart). `scored` answers carried a score in 0..1, and `score_sum` is the sum of their scores in millionths.
    `stand_ins` are those of the attempts that were routed elsewhere, where they failed or nobody was: bursts fall to
    revisions as the other attempts do. `last_ms` is when the last answer ended (Unix time in milliseconds, 0: none did).
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
    bad_bursts: int | None = None
    slow_bursts: int | None = None
    scored: int = 0
    score_sum: int = 0
    stand_ins: int = 0
    last_ms: int = 0

    @property
    def bad_once(self) -> int:
        """Bad attempts with each caller's burst counted once, where callers are told apart."""
        return self.bad if self.bad_bursts is None else self.bad_bursts

    @property
    def slow_once(self) -> int:
        """Slow answers with each caller's burst counted once, where callers are told apart."""
        return self.slow if self.slow_bursts is None else self.slow_bursts


@dataclass(frozen=True, slots=True)
class PairCount:
    """Requests that a shadow answered beside stable, joined by request id, in one second at one edge.

    `revision` is the shadow's, `region` where it answered. Of the `pairs` that both answered, `disagreed` had other
    answers; `distance_sum` is the sum of the distances of their scores, each in 0..1, in millionths.
    """

    second: int
    edge: str
    model: str
    revision: str
    region: str
    pairs: int
    disagreed: int
    distance_sum: int = 0


@dataclass(frozen=True, slots=True)
class Attempts:
    """Counts per second, complete up to (not including) the second `complete_to`."""

    counts: tuple[AttemptCount, ...]
    complete_to: int
    pairs: tuple[PairCount, ...] = ()

    def of(self, revision: str) -> Attempts:
        """Return the counts of one revision."""
        counts = tuple(count for count in self.counts if count.revision == revision)
        return Attempts(counts, self.complete_to, tuple(pair for pair in self.pairs if pair.revision == revision))

    def within(self, regions: Collection[str]) -> Attempts:
        """Return the counts of some regions, of all where none is named."""
        return replace(self, counts=tuple(count for count in self.counts if count.region in regions)) if regions else self

    def live(self) -> Attempts:
        """Return the counts of callers' own requests: neither copies nor pinned ones."""
        return replace(self, counts=tuple(count for count in self.counts if count.traffic == "live"))

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
        pairs = tuple(pair for part in parts for pair in part.pairs)
        return cls(counts, min((part.complete_to for part in parts), default=0), pairs)


class Outcome(StrEnum):
    """What the judge concluded."""

    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    NOT_ENOUGH_DATA = "not enough data"


class Metric(StrEnum):
    """What may convict a canary."""

    ERRORS = "errors"
    SLOW = "slow"
    OBJECTIVE = "objective"
    PREDICTIONS = "predictions"
    PAIRS = "pairs"

    @property
    def meaning(self) -> str:
        """What it is evidence of, in words that follow "the canary"."""
        return _MEANINGS[self]


_MEANINGS = {
    Metric.ERRORS: "gives more bad answers than stable",
    Metric.SLOW: "is slower than stable",
    Metric.OBJECTIVE: "gives more bad answers than the SLO allows",
    Metric.PREDICTIONS: "predicts otherwise than stable",
    Metric.PAIRS: "answers the same requests otherwise than stable",
}


@dataclass(frozen=True, slots=True)
class RegionEvidence:
    """One region's figures behind a verdict; rates and shares lie in 0..1, e-values are 0 or more.

    `upper_bound` bounds what the release declares: the canary's bad-answer rate, or its difference from stable's.
    """

    region: str
    canary_attempts: int
    canary_bad: int
    stable_attempts: int
    stable_bad: int
    harm: float
    upper_bound: float
    canary_slow: int = 0
    stable_slow: int = 0


@dataclass(frozen=True, slots=True)
class MetricEvidence:
    """One metric's e-value over all regions, and its part of the error budget (0..1)."""

    metric: Metric
    harm: float
    stake: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its reasons in plain words and the figures it rests on.

    `harm` is the release's e-value against "the canary is no worse"; `harm_limit` is where it rolls back.
    `upper_bound` is the bound over all traffic; `only_in` names the region that alone shows the harm, if one does.
    `answers_needed` is how many more clean answers by the canary a promotion needs, in the region that needs most.
    `course` is how the evidence of harm came about, point by point: 0 none, 1 the limit, on the scale of logarithms.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    harm: float
    harm_limit: float
    regions: tuple[RegionEvidence, ...]
    metrics: tuple[MetricEvidence, ...] = ()
    upper_bound: float = 1.0
    only_in: str = ""
    answers_needed: int = 0
    course: tuple[float, ...] = ()


class GateOutcome(StrEnum):
    """What a gate said; `not applicable` only where the gate declares when."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"

    @property
    def refuses(self) -> bool:
        """Whether a release may not go on: it is not passed by what could not be told."""
        return self in (GateOutcome.FAILED, GateOutcome.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class GateTable:
    """Rows that a gate's report shows, each with one text per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class GateChart:
    """Values that a gate's report draws as bars, each beside its name; `limit` is where they must end (None: nowhere)."""

    title: str
    bars: tuple[tuple[str, Decimal], ...]
    limit: Decimal | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's answer, with its reasons, the figures it looked at, and how long that took.

    `figures` are names and values, `tables` and `charts` what the report shows beside them.
    """

    gate: str
    outcome: GateOutcome
    reasons: tuple[str, ...]
    figures: tuple[tuple[str, str], ...] = ()
    tables: tuple[GateTable, ...] = ()
    charts: tuple[GateChart, ...] = ()
    took_ms: int = 0
