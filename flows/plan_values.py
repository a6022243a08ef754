"""What a plan is made from and of: what is wanted of a model, what was seen of it, and what is to be done; values alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from clouds.serving import State
from fleet.versions import Revision
from flows.desires import UNSEEN_YET, Alias


class Verb(StrEnum):
    """What a plan does, in the order in which it is done; `meaning` says it in one sentence."""

    RELEASE = "release"
    COPY = "copy"
    START = "start"
    POINT = "point"
    ROUTE = "route"
    ALIAS = "alias"
    RETIRE = "retire"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANING[self]


MEANING: dict[Verb, str] = {
    Verb.RELEASE: "The release flow tells the model's story on; everything else of it waits until that has ended.",
    Verb.COPY: "The stable revision is copied to the region's store and read back there.",
    Verb.START: "The region is made to run the stable revision, and it is waited for until it is ready.",
    Verb.POINT: "The region's store is made to name the stable revision.",
    Verb.ROUTE: "The edge is given a table by which the stable revision has everything, where it is ready.",
    Verb.ALIAS: "MLflow's alias is set to the version that it must name.",
    Verb.RETIRE: "A revision that nobody wants is stopped, once no edge can send it a request.",
}


@dataclass(frozen=True, slots=True)
class Unseen:
    """What could not be looked at, and why; `lasting` says that this does not pass by itself."""

    why: str
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """A revision that a region was asked to run; `at` is its host and port, None where it has none."""

    revision: str
    state: State
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a region's store says: whether it holds the stable revision, which one it names, and since which epoch."""

    holds: bool
    names: str | None = None
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class SeenRegion:
    """One region of a model; what runs there and what its store says are asked, and fail, each by itself."""

    region: str
    running: tuple[Running, ...] | Unseen
    store: Kept | Unseen


@dataclass(frozen=True, slots=True)
class Place:
    """Where a routing table finds a revision in a region."""

    revision: str
    region: str
    at: str


@dataclass(frozen=True, slots=True)
class Routed:
    """What an edge has for a model: each revision's percent as its Envoy reports it (nothing: it does not say), the table's
    places, the digest of its rules and the epoch that wrote it."""

    weights: tuple[tuple[str, float], ...]
    places: tuple[Place, ...]
    rules: str
    epoch: int = 0

    def percent_of(self, revision: str) -> float | None:
        """Return a revision's percent, None where Envoy does not say."""
        return sum(percent for digest, percent in self.weights if digest == revision) if self.weights else None

    def may_ask(self, revision: str) -> bool:
        """Whether a request may still come to a revision by this table."""
        named = any(place.revision == revision for place in self.places)
        return named or not self.weights or any(digest == revision and percent for digest, percent in self.weights)


@dataclass(frozen=True, slots=True)
class SeenEdges:
    """Edges that say the same of a model; `routed` is None for those that never had a table for it."""

    names: tuple[str, ...]
    routed: Routed | Unseen | None


@dataclass(frozen=True, slots=True)
class SeenModel:
    """One model as it is. An alias is the version that it names; `champion` is unseen too where nothing could set it right."""

    model: str
    regions: tuple[SeenRegion, ...] = ()
    edges: tuple[SeenEdges, ...] = ()
    champion: str | Unseen | None = None
    candidate: str | Unseen | None = None


@dataclass(frozen=True, slots=True)
class Left:
    """What a model or region that fleet.yaml declares no more has left behind: it is told, and nothing is done about it."""

    what: str
    where: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}, {self.where}: {self.why}"


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen of the models, when it was all seen, and what is left of those that are declared no more."""

    at: datetime
    models: tuple[SeenModel, ...]
    left: tuple[Left, ...] = ()

    def of(self, model: str) -> SeenModel | None:
        """Return what was seen of a model, None where it was not looked at."""
        return next((seen for seen in self.models if seen.model == model), None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A release that has not ended and has something to do."""

    release: str
    version: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What fleet.yaml and the ledger want of a model.

    `waiting` are its releases under way that have something to do, `warm` the revisions of those that wait for people,
    `adopted` what may go on running in a region although it is not stable. `rules` is the digest of its declared rules,
    `barred` has the regions to which fleet.yaml lets nothing of the model be copied now, each with the reason.
    """

    model: str
    regions: tuple[str, ...]
    stable: Revision | None = None
    waiting: tuple[Waiting, ...] = ()
    warm: tuple[str, ...] = ()
    adopted: tuple[tuple[str, str], ...] = ()
    rules: str = ""
    candidate: Alias = UNSEEN_YET
    barred: tuple[tuple[str, str], ...] = ()

    def bars(self, region: SeenRegion) -> str | None:
        """Return why a region without the stable revision must not get it, None where it may or has it."""
        if isinstance(region.store, Unseen) or region.store.holds:
            return None
        return next((why for name, why in self.barred if name == region.region), None)

    def may_run(self, region: str, revision: str) -> bool:
        """Whether somebody wants a revision in a region."""
        if region not in self.regions:
            return False
        stable = self.stable is not None and self.stable.digest == revision
        return stable or revision in self.warm or (region, revision) in self.adopted


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: `where` is a region, an edge, an alias or a release, `what` a revision or a version."""

    verb: Verb
    model: str
    where: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


class Of(StrEnum):
    """What could not be looked at; or a copy that fleet.yaml forbids."""

    REGION = "region"
    EDGE = "edge"
    ALIAS = "alias"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is not known of a model, so that the plan does nothing that could harm if it were otherwise; or is known and not allowed."""

    of: Of
    model: str
    where: str
    why: str
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What brings the actual state to the wanted one, in the order in which it is done; nothing where they are the same."""

    actions: tuple[Action, ...] = ()
    doubts: tuple[Doubt, ...] = ()

    def of(self, *verbs: Verb) -> tuple[Action, ...]:
        """Return the actions of some kinds."""
        return tuple(action for action in self.actions if action.verb in verbs)

    def doubts_of(self, *kinds: Of) -> tuple[Doubt, ...]:
        """Return the doubts of some kinds."""
        return tuple(doubt for doubt in self.doubts if doubt.of in kinds)

    @property
    def reasons(self) -> list[str]:
        """Why there is anything to do, in words."""
        return [str(action) for action in self.actions]


def joined(plans: Iterable[Plan]) -> Plan:
    """Return the plans of several models as one."""
    found = tuple(plans)
    return Plan(tuple(action for each in found for action in each.actions), tuple(doubt for each in found for doubt in each.doubts))
