"""The routing table of one model: who gets which share, until when, and what holds after that."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fleet.canonical import short
from fleet.errors import InputError
from traffic.rules import NO_RULES, Rules, Shadow, rule_problems

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MODEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
STRICT = ConfigDict(extra="forbid")
REMEDY = "Nothing was changed; send a correct table."


@dataclass(frozen=True, slots=True)
class Share:
    """A revision (`sha256:<hex>`) and its part of the model's requests in whole percent."""

    revision: str
    weight: int

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Backend:
    """Where one revision listens in one region; `host` is an IP address."""

    revision: str
    region: str
    host: str
    port: int

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class Regional:
    """The shares of one region's requests, where they differ from those of the others."""

    region: str
    shares: tuple[Share, ...]

    __pydantic_config__ = STRICT


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything an edge must know about one model.

    `epoch` comes from the model's lease, `version` counts within it; an edge takes only what is higher. Past
    `expires_at` (Unix seconds) the edge takes the `safe` shares by itself. `latency_ms` is the SLO's limit, from which
    timeouts derive. `score_range` is what the model's scores may be, `score_tolerance` the part of it by which two answers
    may differ and still agree. `rules` hold whatever the shares are, a `shadow` as long as the shares. `regional` has
    the regions whose requests are dealt out by other shares than `shares`. Raises InputError when the whole is not
    consistent.
    """

    model: str
    epoch: int
    version: int
    expires_at: float
    shares: tuple[Share, ...]
    safe: tuple[Share, ...]
    backends: tuple[Backend, ...]
    latency_ms: int
    score_range: tuple[float, float] | None = None
    score_tolerance: float = 0.0
    rules: Rules = NO_RULES
    shadow: Shadow | None = None
    regional: tuple[Regional, ...] = ()

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        problems = [*_header_problems(self), *_backend_problems(self.backends), *rule_problems(self.rules)]
        named = [("shares", self.shares), ("safe", self.safe), *((f"shares of {each.region}", each.shares) for each in self.regional)]
        problems += [problem for name, shares in named for problem in _share_problems(name, shares, self.backends)]
        problems = problems or [*_shadow_problems(self), *_regional_problems(self)]
        if problems:
            raise InputError(f"routing table of model '{self.model}'", "; ".join(problems), REMEDY)

    @property
    def entry(self) -> str:
        """The path under which callers reach the model."""
        return f"/v2/models/{self.model}/"

    @property
    def order(self) -> tuple[int, int]:
        """Epoch and version: what decides which of two tables is the newer one."""
        return self.epoch, self.version

    @property
    def stable(self) -> str:
        """The revision that answers when another cannot: the one with most of the safe shares."""
        return max(self.safe, key=lambda share: share.weight).revision

    @property
    def canary(self) -> str | None:
        """The revision beside stable, the one with more of the shares where there are several."""
        others = dict.fromkeys(backend.revision for backend in self.backends if backend.revision != self.stable)
        return max(others, key=self.weight_of, default=None)

    def weight_of(self, revision: str) -> int:
        """Return a revision's share in percent, 0 when it has none."""
        return sum(share.weight for share in self.shares if share.revision == revision)

    def shares_in(self, region: str | None) -> tuple[Share, ...]:
        """Return the shares of a region's requests."""
        return next((each.shares for each in self.regional if each.region == region), self.shares)

    def weight_in(self, region: str | None, revision: str) -> int:
        """Return a revision's share of a region's requests in percent, 0 when it has none."""
        return sum(share.weight for share in self.shares_in(region) if share.revision == revision)

    def safe_weight_of(self, revision: str) -> int:
        """Return a revision's share in percent once the safe shares hold."""
        return sum(share.weight for share in self.safe if share.revision == revision)

    def regions_of(self, revision: str) -> tuple[str, ...]:
        """Return the regions that have a revision, in the table's order."""
        return tuple(backend.region for backend in self.backends if backend.revision == revision)

    def on_safe_shares(self) -> RoutingTable:
        """Return the same table with its safe shares in force, and no shadow."""
        return replace(self, shares=self.safe, shadow=None, regional=())

    def same_routes(self, other: RoutingTable) -> bool:
        """Say whether two tables differ in nothing that an Envoy would have to be told."""
        return self._routes() == other._routes()

    def _routes(self) -> RoutingTable:
        return replace(self, epoch=0, version=0, expires_at=0.0, score_range=None, score_tolerance=0.0)

    def to_json(self) -> bytes:
        """Return the table as JSON, to be read by `table_from_json`; what is not asked for is left out."""
        return TABLE.dump_json(self, exclude_defaults=True)


TABLE: TypeAdapter[RoutingTable] = TypeAdapter(RoutingTable)


def table_from_json(data: bytes) -> RoutingTable:
    """Return the table that some JSON holds; raises InputError naming every wrong field."""
    try:
        return TABLE.validate_json(data, strict=True)
    except ValidationError as problem:
        found = "; ".join(f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg']}" for error in problem.errors())
        raise InputError("routing table", found, REMEDY) from problem


def raised_revisions(old: RoutingTable | None, new: RoutingTable) -> tuple[str, ...]:
    """Return the revisions that a new table exposes to more requests, or at a new place, than the old one does.

    A table exposes a revision to the larger of its share and its safe share, so that a promotion, which only makes
    the present share the safe one, raises nothing, and neither does a way back. To copies of requests and to callers
    who choose their revision it exposes it as well.
    """
    exposed = [revision for revision in dict.fromkeys(b.revision for b in new.backends) if any(_exposure(new, revision, _regions(new)))]
    return tuple(revision for revision in exposed if _raises(old, new, revision))


def raises_exposure(old: RoutingTable | None, new: RoutingTable) -> bool:
    """Say whether a new table must be accepted by every edge before any edge may take it."""
    return bool(raised_revisions(old, new))


def _raises(old: RoutingTable | None, new: RoutingTable, revision: str) -> bool:
    if old is None:
        return True
    regions = _regions(old, new)
    if any(now > then for now, then in zip(_exposure(new, revision, regions), _exposure(old, revision, regions), strict=True)):
        return True
    return not _places(new, revision) <= _places(old, revision)


def _exposure(table: RoutingTable, revision: str, regions: Iterable[str | None]) -> tuple[int, ...]:
    """Return how much a revision gets: of each region's requests, of their copies, and whether callers may choose it.

    Callers may always choose stable.
    """
    requests = (max(table.weight_in(region, revision), table.safe_weight_of(revision)) for region in regions)
    copies = table.shadow.percent if table.shadow and table.shadow.revision == revision else 0
    pinned = table.rules.pin_header is not None and revision != table.stable and bool(_places(table, revision))
    return *requests, copies, pinned


def _regions(*tables: RoutingTable) -> tuple[str | None, ...]:
    """Return the regions whose shares some tables name, and None for all the others."""
    return tuple(dict.fromkeys([None, *(each.region for table in tables for each in table.regional)]))


def _places(table: RoutingTable, revision: str) -> set[Backend]:
    return {backend for backend in table.backends if backend.revision == revision}


def _header_problems(table: RoutingTable) -> Iterable[str]:
    if not MODEL.fullmatch(table.model):
        yield f"model must match {MODEL.pattern}"
    if table.epoch < 0 or table.version < 0:
        yield "epoch and version must not be negative"
    if not math.isfinite(table.expires_at) or table.expires_at < 0:
        yield "expires_at must be a time in Unix seconds"
    if table.latency_ms <= 0:
        yield "latency_ms must be above 0"
    yield from _score_problems(table)


def _score_problems(table: RoutingTable) -> Iterable[str]:
    if table.score_range is not None:
        low, high = table.score_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            yield f"score_range must be two numbers, the lower one first (found {low:g} and {high:g})"
    if not 0 <= table.score_tolerance <= 1:
        yield "score_tolerance must lie within 0 to 1"


def _share_problems(name: str, shares: tuple[Share, ...], backends: tuple[Backend, ...]) -> Iterable[str]:
    revisions = [share.revision for share in shares]
    if len(set(revisions)) != len(revisions):
        yield f"{name} names a revision twice"
    if any(not 0 <= share.weight <= 100 for share in shares) or sum(share.weight for share in shares) != 100:
        yield f"{name} must be whole percents that sum to 100 (found {', '.join(str(share.weight) for share in shares) or 'none'})"
    served = {backend.revision for backend in backends}
    for share in shares:
        if share.weight > 0 and share.revision not in served:
            yield f"{name} gives {share.weight} % to {short(share.revision)}, which has no backend"


def _regional_problems(table: RoutingTable) -> Iterable[str]:
    regions = [each.region for each in table.regional]
    if len(set(regions)) != len(regions):
        yield "regional names a region twice"
    served = {backend.region for backend in table.backends}
    for region in regions:
        if region not in served:
            yield f"regional names '{region}', where no backend is"


def _shadow_problems(table: RoutingTable) -> Iterable[str]:
    if table.shadow is None:
        return
    if not 1 <= table.shadow.percent <= 100:
        yield f"shadow must have 1 to 100 percent of the requests (found {table.shadow.percent})"
    if table.shadow.revision == table.stable:
        yield f"shadow {short(table.shadow.revision)} is the stable revision itself"
    elif not table.regions_of(table.shadow.revision):
        yield f"shadow {short(table.shadow.revision)} has no backend"


def _backend_problems(backends: tuple[Backend, ...]) -> Iterable[str]:
    places = [(backend.revision, backend.region) for backend in backends]
    if len(set(places)) != len(places):
        yield "backends names a revision twice in one region"
    if len({short(revision) for revision, _ in places}) != len({revision for revision, _ in places}):
        yield "backends holds two revisions whose short names are the same"
    for backend in backends:
        if not DIGEST.fullmatch(backend.revision):
            yield f"revision '{backend.revision}' must be sha256: and 64 hex digits"
        if not REGION.fullmatch(backend.region):
            yield f"region '{backend.region}' must match {REGION.pattern}"
        if not 0 < backend.port < 65536:
            yield f"port {backend.port} must lie within 1 to 65535"
        if not _is_address(backend.host):
            yield f"host '{backend.host}' must be an IP address"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
