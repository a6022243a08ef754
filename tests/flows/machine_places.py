"""What stands around a release in one process: regions, MLflow, and real edge keepers with Envoys that take files at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from machine_time import Clock

from clouds.serving import Deployment, Endpoint, Fetch, RevisionStatus, State
from fleet.canonical import digest_of
from fleet.errors import UnknownName, Unreachable
from fleet.evidence import Attempts
from fleet.versions import ModelVersion
from traffic.admin import Report, _routes
from traffic.edge_state import EdgeState
from traffic.envoy import EdgePorts
from traffic.gateway import GatewayFiles, bootstrap
from traffic.identity import EdgeIdentity
from traffic.keeper import Keeper
from traffic.lanes import cluster_name
from traffic.table import RoutingTable
from traffic.witness import Testimony

STARTING_SECONDS = 1.0
LOOKS_EVERY = 4
"""An agent looks at its Envoy with every so many of its chores; a real one does so more often, which only takes longer here."""


class Kind(StrEnum):
    """What a version is like: this is what gates, regions and the judge say of it."""

    GOOD = "good"
    HARMFUL = "harmful"
    HARMFUL_COPY = "harmful already as a shadow"
    UNDECIDED = "undecided"
    REFUSED = "refused by a gate"
    UNFIT = "unfit for a region"


@dataclass
class Mlflow:
    """The registry; setting the alias `candidate` lays a webhook into the mail."""

    moment: Callable[[str], None]
    kinds: dict[str, Kind] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    mail: list[str] = field(default_factory=list)
    away: bool = False

    def register(self, kind: Kind) -> str:
        version = str(len(self.kinds) + 1)
        self.kinds[version] = kind
        return version

    def version(self, model: str, version: str) -> ModelVersion:
        self._asked()
        if version not in self.kinds:
            raise UnknownName(f"model '{model}' version {version}", "is not registered in MLflow")
        return ModelVersion(model, version, f"models:/{model}/{version}")

    def alias(self, _model: str, name: str) -> str | None:
        self._asked()
        return self.aliases.get(name)

    def set_alias(self, model: str, name: str, version: str) -> None:
        self.version(model, version)
        self.aliases[name] = version
        if name == "candidate":
            self.mail.append(version)
        self.moment("mlflow")

    def download(self, version: ModelVersion, _to: Path) -> Any:
        self._asked()
        return SimpleNamespace(digest=digest_of(version.source.encode()))

    def training(self, *_: object) -> None:
        self._asked()

    def _asked(self) -> None:
        self.moment("mlflow")
        if self.away:
            raise Unreachable("MLflow", "does not answer")


@dataclass
class Regions:
    """Every region's processes; `watch` is told before one is stopped."""

    clock: Clock
    stored: Callable[[str, str], bool]
    unfit: Callable[[str, str], bool]
    watch: Callable[[str, str], None]
    began: dict[tuple[str, str], float] = field(default_factory=dict)
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def deploy(self, wanted: Deployment, _fetch: Fetch) -> None:
        assert self.stored(wanted.region, wanted.digest), f"{wanted.region} was told to run what its store does not have"
        self.began.setdefault((wanted.region, wanted.digest), self.clock.steady)

    def status_of(self, region: str, model: str, digest: str) -> RevisionStatus:
        began = self.began.get((region, digest))
        if began is None:
            return RevisionStatus(model, region, digest, State.ABSENT)
        ready = State.READY if self.clock.steady >= began + STARTING_SECONDS else State.STARTING
        state = State.FAILED if self.unfit(region, digest) else ready
        port = self.ports.setdefault((region, digest), 9_000 + len(self.ports))
        return RevisionStatus(model, region, digest, state, Endpoint("127.0.0.1", port), reason="as the test has it")

    def status(self, model: str, region: str) -> tuple[RevisionStatus, ...]:
        return tuple(self.status_of(place, model, digest) for place, digest in self.began if place == region)

    def retire(self, region: str, _model: str, digest: str) -> None:
        if (region, digest) in self.began:
            self.watch(region, digest)
            del self.began[region, digest]

    def answers(self, region: str, digest: str) -> bool:
        return self.status_of(region, "any", digest).state is State.READY


class Line(StrEnum):
    """How an edge is reached."""

    UP = "up"
    CUT = "its agent is out of reach"
    FAR = "nothing of it can be reached"
    MUTE = "it does what it is told, and its answers are lost"
    DEAD = "its agent is dead, and its Envoy goes on"
    DEAF = "its Envoy takes nothing and says nothing, and goes on"


class Envoy:
    """Takes the files that are there when it looks; a deaf one keeps what it had."""

    def __init__(self, folder: Path, healthy: Callable[[], Mapping[str, bool | None]]) -> None:
        self.deaf = False
        self._files = GatewayFiles(folder.absolute())
        self._healthy = healthy
        self._seen = (b"", b"")
        self._versions: tuple[str | None, str | None] = (None, None)
        self._weights: dict[str, dict[str, int]] = {}

    def weights(self) -> dict[str, dict[str, int]]:
        """Return what it routes now: each cluster's weight by model."""
        files = (self._files.routes.read_bytes(), self._files.clusters.read_bytes())
        if not self.deaf and files != self._seen:
            self._seen = files
            routes, clusters = map(json.loads, files)
            dumped = [{"version_info": routes["version_info"], "route_config": found} for found in routes["resources"]]
            version, self._weights = _routes({"configs": dumped})
            self._versions = (version, clusters["version_info"])
        return self._weights

    def ready(self) -> bool:
        return not self.deaf

    def report(self) -> Report:
        if self.deaf:
            raise Unreachable("envoy", "its admin interface does not answer")
        weights = self.weights()
        routes, clusters = self._versions
        return Report(routes, clusters, True, weights, self._healthy())


class FakeLine:
    """An edge as a controller reaches it: a real keeper behind a line that fails as it is set, and an Envoy."""

    admin = 1

    def __init__(self, name: str, world: Any, folder: Path) -> None:
        self.name, self.line = name, Line.UP
        self._world = world
        self._folder = folder
        self._chores = 0
        bootstrap(folder, name, EdgePorts(1, 2))
        self.envoy = Envoy(folder, self._healthy)
        self.start()

    def start(self) -> None:
        """Start the agent, from what the one before remembered."""
        self.keeper = Keeper(EdgeIdentity(self.name, self.name), self._folder, EdgePorts(1, 2), self._world.clock.time)
        self.keeper._admin = self.envoy  # type: ignore[assignment]
        self.keeper.start()

    def chores(self) -> None:
        if self.line is not Line.DEAD:
            self.keeper.expire()
            self._chores += 1
            if self._chores % LOOKS_EVERY == 0:
                self.keeper.look()

    def become(self, line: Line) -> None:
        before, self.line = self.line, line
        self.envoy.deaf = line is Line.DEAF
        if before is Line.DEAD and line is not Line.DEAD:
            self.start()

    def prepare(self, table: RoutingTable) -> None:
        with self._asked():
            self.keeper.prepare(table)

    def apply(self, table: RoutingTable) -> EdgeState:
        with self._asked():
            return self.keeper.apply(table)

    def take_safe_shares(self, model: str, epoch: int) -> EdgeState:
        with self._asked():
            return self.keeper.take_safe_shares(model, epoch)

    def state(self) -> EdgeState:
        with self._asked():
            return self.keeper.state()

    def attempts(self, _model: str, _since: int, _until: int) -> Attempts:
        with self._asked():
            return Attempts((), int(self._world.clock.time()) + 1)

    def testify(self, model: str, revision: str) -> Testimony:
        """Say what its Envoy says of a revision when its agent says nothing."""
        if self.line in (Line.FAR, Line.DEAF):
            return Testimony(None, "its Envoy does not answer")
        percent = self.percent_of(model, revision)
        return Testimony(percent, f"its Envoy was read with {percent:g} %")

    def percent_of(self, model: str, revision: str) -> float:
        """Return how much of a model's requests its Envoy gives a revision now."""
        weights = self.envoy.weights().get(model, {})
        whole = sum(weights.values())
        own = sum(weight for cluster, weight in weights.items() if cluster.split("/")[1] == revision.removeprefix("sha256:")[:12])
        return 100 * own / whole if whole else 0.0

    def _healthy(self) -> dict[str, bool | None]:
        regions: Regions = self._world.regions
        return {cluster_name("toy", digest, region): regions.answers(region, digest) for region, digest in regions.ports}

    @contextmanager
    def _asked(self) -> Iterator[None]:
        self._world.runs.moment("edge")
        if self.line in (Line.CUT, Line.FAR, Line.DEAD):
            raise Unreachable(f"edge '{self.name}'", "does not answer (as the test has it)")
        yield
        self._world.runs.moment("edge")
        if self.line is Line.MUTE:
            raise Unreachable(f"edge '{self.name}'", "does not answer (its answer is lost)")
