"""How far regions lag: from the first copy of a revision to each region's own, read back there, as the ledger has it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.versions import Revision
from flows.desires import desires, model_stream, release_stream
from flows.house import House
from registry.ledger import Event, Ledger

CAUGHT_UP = "region.caught up"
STABLE_SET = "stable.set"
REVISION = "revision"
"""The class of assets whose copies have a limit."""
REPLICATE = "replicate:"


def replication_stream(model: str) -> str:
    """Return the stream of what regions got after a promotion."""
    return f"replication/{model}"


@dataclass(frozen=True, slots=True)
class Lag:
    """How long a region's copies took from the first one's begin: of how many, the median, the 99th percentile and the last, in seconds."""

    copies: int
    p50: float
    p99: float
    last: float


def lags(house: House, model: str) -> dict[str, Lag]:
    """Return the lag of each region of a model that ever got a revision of it."""
    begun, got = _history(house.ledger, model)
    found: dict[str, list[float]] = {}
    for (digest, region), at in got.items():
        if digest in begun and region in house.model(model).regions:
            found.setdefault(region, []).append(max(0.0, (at - begun[digest]).total_seconds()))
    return {region: Lag(len(each), _rank(each, 0.5), _rank(each, 0.99), each[-1]) for region, each in found.items()}


@dataclass(frozen=True, slots=True)
class Behind:
    """A region that lacks a copy: of which class of assets and version, for how many seconds, and how many fleet.yaml allows."""

    region: str
    asset: str
    version: str
    seconds: float
    limit: float

    @property
    def over(self) -> bool:
        """Whether that is longer than allowed."""
        return self.seconds > self.limit


def behind(house: House, model: str, now: datetime) -> tuple[Behind, ...]:
    """Return which regions have not read back the stable revision, since its release began to copy it anywhere."""
    promoted = house.ledger.last(model_stream(model), STABLE_SET)
    if promoted is None:
        return ()
    digest, declared = str(promoted.payload["digest"]), house.model(model)
    copies = _copies(house.ledger.stream(release_stream(str(promoted.payload["release"])), "effect.intended", "effect.completed"))
    ours = [event for event in copies if event.payload["digest"] == digest]
    done = {str(event.payload["region"]) for event in ours if event.type == "effect.completed"}
    without = [region for region in declared.regions if region not in done]
    if not ours or not without:
        return ()
    # It may have been there before this release, or have caught up since
    got = _history(house.ledger, model)[1]
    late = max(0.0, (now - ours[0].at).total_seconds())
    limit = declared.replication.lag_seconds
    return tuple(
        Behind(region, REVISION, str(promoted.payload["version"]), late, limit) for region in without if (digest, region) not in got
    )


def lagging(house: House, model: str, now: datetime) -> list[str]:
    """Return which regions lack the stable revision for longer than fleet.yaml allows, in words; nothing when none does."""
    return [
        f"{each.region} lacks version {each.version} for {each.seconds:,.0f} s (limit {each.limit:g} s)"
        for each in behind(house, model, now)
        if each.over
    ]


def has_copy(ledger: Ledger, revision: Revision, region: str) -> bool:
    """Whether the ledger says that a region has read a revision back."""
    return (revision.digest, region) in _history(ledger, revision.model)[1]


def _history(ledger: Ledger, model: str) -> tuple[dict[str, datetime], dict[tuple[str, str], datetime]]:
    """Return when each revision's first copy began, and when each region had read back its own, the first time."""
    begun: dict[str, datetime] = {}
    got: dict[tuple[str, str], datetime] = {}
    for desire in desires(ledger, model):
        events = ledger.stream(release_stream(desire.release), "effect.intended", "effect.completed")
        for event in _copies(events):
            if event.type == "effect.intended":
                begun.setdefault(str(event.payload["digest"]), event.at)
            else:
                got.setdefault(_place(event.payload), event.at)
    for event in ledger.stream(replication_stream(model), CAUGHT_UP):
        got.setdefault(_place(event.payload), event.at)
    return begun, got


def _copies(events: Iterable[Event]) -> Iterable[Event]:
    return (event for event in events if (event.effect_key or "").startswith(REPLICATE))


def _place(payload: Mapping[str, object]) -> tuple[str, str]:
    return str(payload["digest"]), str(payload["region"])


def _rank(values: Sequence[float], part: float) -> float:
    """Return the nearest-rank quantile."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]
