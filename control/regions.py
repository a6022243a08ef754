"""The regions as they are: which revision serves, with which weight meant and which share measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from clouds.serving import State
from fleet.evidence import Attempts
from fleet.versions import Revision
from flows.desires import unfinished
from flows.house import House
from flows.lagging import behind
from flows.work import release_revision, stable_of
from traffic.edge_state import EdgeState
from traffic.edges import observe_answering

MEASURED_SECONDS = 60


class RevisionView(BaseModel):
    """A revision in a region; weight in percent as the edges hold it, share 0..1 of the last minute's attempts there."""

    model_config = ConfigDict(frozen=True)

    revision: str | None
    mlflow_version: str | None
    state: str
    reason: str
    intended_weight: int
    measured_share: float | None


class LagView(BaseModel):
    """A copy that a region does not have yet: of which class of assets and version, for how long, and how long it may take."""

    model_config = ConfigDict(frozen=True)

    asset: str
    version: str
    seconds: float
    limit_seconds: float
    over_limit: bool


class ServedView(RevisionView):
    """What serves a model in a region: the stable revision, the canary beside it if there is one, and the copies that lag."""

    canary: RevisionView | None
    lags: tuple[LagView, ...] = ()


class RegionView(BaseModel):
    """A region; healthy when every model's stable revision is ready in it."""

    model_config = ConfigDict(frozen=True)

    provider: str
    place: str
    jurisdiction: str
    healthy: bool
    models: dict[str, ServedView]


def region_views(house: House, states: Sequence[EdgeState]) -> dict[str, RegionView]:
    """Return every declared region as it is now, seen with the edges that answered; raises TransientError without the supervisor."""
    measured, lags = _measured(house), _lags(house)
    views = {}
    for name, region in house.fleet.regions.items():
        models = {
            model: _served(house, name, model, states, measured[model]).model_copy(update={"lags": lags.get((name, model), ())})
            for model, declared in house.fleet.models.items()
            if name in declared.regions
        }
        healthy = all(served.state == State.READY.value for served in models.values())
        views[name] = RegionView(
            provider=region.provider, place=region.place, jurisdiction=region.jurisdiction, healthy=healthy, models=models
        )
    return views


def _served(house: House, region: str, model: str, states: Sequence[EdgeState], attempts: Attempts) -> ServedView:
    stable = stable_of(house, model)
    released = [release_revision(house, desire) for desire in unfinished(house.ledger, model)]
    canary = next((found for found in released if found is not None and (stable is None or found.digest != stable.digest)), None)
    beside = _revision(house, region, canary, states, attempts) if canary is not None else None
    if stable is None:
        nothing = "no version was released yet"
        return ServedView(
            revision=None, mlflow_version=None, state="absent", reason=nothing, intended_weight=0, measured_share=None, canary=beside
        )
    return ServedView(**_revision(house, region, stable, states, attempts).model_dump(), canary=beside)


def _revision(house: House, region: str, revision: Revision, states: Sequence[EdgeState], attempts: Attempts) -> RevisionView:
    status = house.target(region).status_of(region, revision.model, revision.digest)
    weights = [found.in_force.weight_in(region, revision.digest) for state in states if (found := state.of(revision.model)) is not None]
    there = [count for count in attempts.counts if count.region == region and count.traffic == "live"]
    total = sum(count.attempts for count in there)
    own = sum(count.attempts for count in there if count.revision == revision.digest)
    return RevisionView(
        revision=revision.digest,
        mlflow_version=revision.version,
        state=status.state.value,
        reason=status.reason,
        intended_weight=max(weights, default=0),
        measured_share=round(own / total, 4) if total else None,
    )


def _lags(house: House) -> dict[tuple[str, str], tuple[LagView, ...]]:
    """Return the copies that regions lack now, by region and model."""
    now = datetime.now(UTC)
    found: dict[tuple[str, str], tuple[LagView, ...]] = {}
    for model in house.fleet.models:
        for each in behind(house, model, now):
            lag = LagView(
                asset=each.asset, version=each.version, seconds=round(each.seconds, 1), limit_seconds=each.limit, over_limit=each.over
            )
            found[each.region, model] = (*found.get((each.region, model), ()), lag)
    return found


def _measured(house: House) -> dict[str, Attempts]:
    """Return what the edges that can be asked have counted; of the others their own line says that they do not answer."""
    since = int(time.time()) - MEASURED_SECONDS
    return {model: observe_answering(house.edges, model, since).attempts for model in house.fleet.models}
