"""What the judge has seen of a canary, as the ledger has it: so a verdict can be judged again, offline, for ever.

Each look takes only seconds that an edge has completed since the look before. They are recorded with the verdict, and
from then on the record is what is judged: nothing that was seen once changes, whatever becomes of an edge. What
an edge tells late, because nobody could reach it, is taken in at the next look, in strata of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, TypeVar

from fleet.errors import ConvoyError, OperationFailed, Unreachable
from fleet.evidence import AttemptCount, Attempts, PairCount
from monitoring.judge import CanaryEvidence
from registry.ledger import JSON, Event
from traffic.edge_client import Edge

Told = TypeVar("Told", AttemptCount, PairCount)

JUDGED: Final = "canary.judged"
OBSERVED: Final = "observed"
CANARY, STABLE = "canary", "stable"


@dataclass(frozen=True, slots=True)
class Sides:
    """Which revision is which, of which model."""

    model: str
    canary: str
    stable: str

    def role_of(self, revision: str) -> str | None:
        """Return whether a revision is canary or stable here; None for any other."""
        return {self.canary: CANARY, self.stable: STABLE}.get(revision)


@dataclass
class Observed:
    """Everything that was taken in since the second `since`; `complete_to` says per edge how far it has told."""

    sides: Sides
    since: int
    counts: list[AttemptCount] = field(default_factory=list)
    pairs: list[PairCount] = field(default_factory=list)
    complete_to: dict[str, int] = field(default_factory=dict)
    weights: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def cuts(self) -> tuple[int, ...]:
        """The seconds at which a look found other weights than the one before; those between two such looks stand apart."""
        changes = [(before, now) for before, now in pairwise(self.weights) if before[1:] != now[1:]]
        return tuple(sorted({look[0] for change in changes for look in change}))

    @property
    def horizon(self) -> int:
        """The second up to which some edge has told; no later look adds to an earlier second."""
        return max(self.complete_to.values(), default=self.since)

    def evidence(self, regions: tuple[str, ...]) -> CanaryEvidence:
        """Return it as the judge reads it."""
        attempts = Attempts(tuple(self.counts), self.horizon, tuple(self.pairs))
        return CanaryEvidence(self.sides.canary, self.sides.stable, attempts, regions, min(self.complete_to.values(), default=0), self.cuts)

    def take_in(self, told: Mapping[str, Attempts], weight: int, wave: int = 1) -> Look:
        """Add what the edges told since each was last asked, at a weight in percent in a wave; returns what was new."""
        horizon = self.horizon
        counts = [_late(count, horizon) for part in told.values() for count in part.counts if self._judged(count)]
        pairs = [_late(pair, horizon) for part in told.values() for pair in part.pairs if pair.revision == self.sides.canary]
        complete_to = {edge: part.complete_to for edge, part in told.items()}
        look = Look(tuple(sorted(counts, key=_order)), tuple(sorted(pairs, key=_order)), complete_to)
        self.add(look, weight, wave)
        return look

    def add(self, look: Look, weight: int, wave: int = 1) -> None:
        """Add a look that found a weight in a wave."""
        self.counts += look.counts
        self.pairs += look.pairs
        self.complete_to.update(look.complete_to)
        self.weights.append((self.horizon, weight, wave))

    def _judged(self, count: AttemptCount) -> bool:
        return count.traffic == "live" and self.sides.role_of(count.revision) is not None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look took in."""

    counts: tuple[AttemptCount, ...]
    pairs: tuple[PairCount, ...]
    complete_to: Mapping[str, int]

    def as_json(self, sides: Sides) -> dict[str, JSON]:
        """Return the look as the ledger has it: a row per count, without what is the same in all of them."""
        counts: list[JSON] = [_row(count, sides) for count in self.counts]
        pairs: list[JSON] = [[pair.second, pair.edge, pair.region, pair.pairs, pair.disagreed, pair.distance_sum] for pair in self.pairs]
        return {"counts": counts, "pairs": pairs, "complete_to": dict(self.complete_to)}


def look_at(edges: Sequence[Edge], seen: Observed, until: int, weight: int, wave: int = 1) -> tuple[Look, tuple[str, ...]]:
    """Ask every edge what it completed since it was last asked, at a weight in a wave; returns what is new and why an edge told nothing.

    Raises Unreachable when no edge can be asked at all.
    """

    def told(edge: Edge) -> Attempts | ConvoyError:
        try:
            return edge.attempts(seen.sides.model, seen.complete_to.get(edge.name, seen.since), until)
        except ConvoyError as problem:
            return problem

    with ThreadPoolExecutor(max_workers=len(edges) or 1) as pool:
        answers = dict(zip((edge.name for edge in edges), pool.map(told, edges), strict=True))
    found = {edge: answer for edge, answer in answers.items() if isinstance(answer, Attempts)}
    silent = tuple(str(answer) for answer in answers.values() if isinstance(answer, ConvoyError))
    if not found:
        raise Unreachable("every edge", "; ".join(silent) or "there is none")
    for edge in answers:
        seen.complete_to.setdefault(edge, seen.since)
    return seen.take_in(found, weight, wave), silent


def observed_in(events: Iterable[Event], sides: Sides, since: int) -> Observed:
    """Return what a release's events say was seen; raises OperationFailed for a record that cannot be read."""
    seen = Observed(sides, since)
    for event in events:
        if event.type == JUDGED and OBSERVED in event.payload:
            seen.add(look_from_json(event.payload[OBSERVED], sides), int(str(event.payload["weight"])), wave_of(event))
    return seen


def wave_of(judged: Event) -> int:
    """Return the wave in which a verdict was given; 1 where every region walks at once."""
    return int(str(judged.payload.get("wave", 1)))


def look_from_json(recorded: JSON, sides: Sides) -> Look:
    """Return a look that the ledger has; raises OperationFailed when it is none."""
    try:
        return _look(recorded, sides)
    except (KeyError, TypeError, ValueError) as problem:
        raise OperationFailed("the record of a canary", f"cannot be read ({problem})", "Run `convoy ledger verify`.") from problem


def _look(recorded: Any, sides: Sides) -> Look:
    revision = {CANARY: sides.canary, STABLE: sides.stable}
    counts = tuple(
        AttemptCount(second, edge, sides.model, revision[role], region, attempts, bad, slow, "live", *rest)
        for second, edge, region, role, attempts, bad, slow, *rest in recorded["counts"]
    )
    pairs = tuple(PairCount(second, edge, sides.model, sides.canary, region, *rest) for second, edge, region, *rest in recorded["pairs"])
    return Look(counts, pairs, {str(edge): int(second) for edge, second in recorded["complete_to"].items()})


def _row(count: AttemptCount, sides: Sides) -> list[JSON]:
    return [
        *(count.second, count.edge, count.region, sides.role_of(count.revision)),
        *(count.attempts, count.bad, count.slow, count.bad_bursts, count.slow_bursts, count.scored, count.score_sum, count.stand_ins),
    ]


def _late(told: Told, horizon: int) -> Told:
    """Put what was told late at the horizon, under an edge of its own, so that it is summed with nothing else."""
    if told.second >= horizon:
        return told
    return replace(told, second=horizon, edge=f"{told.edge} at {told.second}")


def _order(told: AttemptCount | PairCount) -> tuple[int, str, str, str]:
    return told.second, told.edge, told.region, told.revision
