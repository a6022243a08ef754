"""What is counted: per second and revision, per second and shadow, and what did not go as it should."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from traffic.attempts.lines import Series


@dataclass(frozen=True, slots=True)
class Troubles:
    """What did not go as it should, since the counts began.

    `malformed` lines were not readable; `late` counts went into a later second than their own; `unjoined` attempts
    stayed unexplained and count as bad; `unrouted` requests failed before a cluster was chosen; `truncated` is how
    often a log shrank under us, losing an unknown number of lines; `unpaired` answers of shadows had nothing to be
    compared with: the caller's own failed, said no mark, or came too long before or after.
    """

    malformed: int = 0
    late: int = 0
    unjoined: int = 0
    unrouted: int = 0
    truncated: int = 0
    unpaired: int = 0

    def plus(self, **more: int) -> Troubles:
        """Return these and some more."""
        old = asdict(self)
        return replace(self, **{name: old[name] + number for name, number in more.items()})


@dataclass(slots=True)
class Cell:
    """What is added to one series in one second."""

    attempts: int = 0
    bad: int = 0
    slow: int = 0
    abandoned: int = 0
    bad_bursts: int = 0
    slow_bursts: int = 0
    scored: int = 0
    score_sum: int = 0
    stand_ins: int = 0
    last_ms: int = 0


@dataclass(slots=True)
class PairCell:
    """What is added to a shadow's pairs in one second."""

    pairs: int = 0
    disagreed: int = 0
    distance_sum: int = 0


Tally = dict[tuple[int, Series], Cell]
PairTally = dict[tuple[int, Series], PairCell]
