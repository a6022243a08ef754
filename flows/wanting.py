"""What is wanted of models, as the planner takes it: folded from fleet.yaml and the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from pydantic import TypeAdapter

from fleet.declared import Fleet
from fleet.errors import Refused
from fleet.phases import ReleasePhase
from fleet.transfers import grants_for
from fleet.versions import Revision
from flows.desires import OBSERVED, SETTLED, Desire, candidate_in, desires_in, model_stream, release_stream, unfinished
from flows.house import House
from flows.parking import parked
from flows.plan_values import Waiting, Wanted
from flows.rules import rules_of
from flows.work import release_revision
from registry.ledger import Event
from traffic.rules import Rules

STABLE_SET, ADOPTED = "stable.set", "revision.adopted"
RULES: TypeAdapter[Rules] = TypeAdapter(Rules)


def wanted_of(house: House, model: str) -> Wanted:
    """Return what is wanted of a model."""
    events = house.ledger.stream(model_stream(model))
    return _wanted(house, model, events, unfinished(house.ledger, model))


def wanted_of_all(house: House, models: Iterable[str]) -> dict[str, Wanted]:
    """Return what is wanted of several models, the ledger being read once for all of them."""
    streams: dict[str, list[Event]] = {}
    for event in house.ledger.starting_with(model_stream(""), OBSERVED, SETTLED, STABLE_SET, ADOPTED):
        streams.setdefault(event.stream, []).append(event)
    phases = house.ledger.newest("phase.entered")
    found = {}
    for model in models:
        events = streams.get(model_stream(model), [])
        open_ones = tuple(each for each in desires_in(model, events) if not _phase(phases, each.release).terminal)
        found[model] = _wanted(house, model, events, open_ones)
    return found


@lru_cache(maxsize=1024)
def rules_digest(rules: Rules) -> str:
    """Return the name of some rules: the same for the same, on every machine."""
    return "sha256:" + hashlib.sha256(RULES.dump_json(rules)).hexdigest()


def _phase(newest: Mapping[str, Event], release: str) -> ReleasePhase:
    entered = newest.get(release_stream(release))
    return ReleasePhase(str(entered.payload["phase"])) if entered else ReleasePhase.REQUESTED


def _wanted(house: House, model: str, events: Sequence[Event], under_way: tuple[Desire, ...]) -> Wanted:
    waiting = tuple(desire for desire in under_way if not parked(house, desire))
    revisions = (release_revision(house, desire) for desire in under_way)
    return Wanted(
        model=model,
        regions=house.model(model).regions,
        stable=_stable(model, events),
        waiting=tuple(Waiting(desire.release, desire.version) for desire in waiting),
        warm=tuple(found.digest for found in revisions if found is not None),
        adopted=adopted_in(events),
        rules=rules_digest(rules_of(house.fleet, model)),
        candidate=candidate_in(events),
        barred=_barred(house.fleet, model),
    )


def _barred(fleet: Fleet, model: str) -> tuple[tuple[str, str], ...]:
    found, now = [], datetime.now(UTC)
    for region in fleet.models[model].regions:
        try:
            grants_for(fleet, model, region, now)
        except Refused as problem:
            found.append((region, problem.reason))
    return tuple(found)


def adopted_in(events: Sequence[Event]) -> tuple[tuple[str, str], ...]:
    """Return what was adopted since the last promotion: the regions and the revisions that may go on running there."""
    last = max((event.stream_seq for event in events if event.type == STABLE_SET), default=0)
    told = (event.payload for event in events if event.type == ADOPTED and event.stream_seq > last)
    return tuple(dict.fromkeys((str(each["region"]), str(each["digest"])) for each in told))


def _stable(model: str, events: Sequence[Event]) -> Revision | None:
    set_ = [event for event in events if event.type == STABLE_SET]
    return Revision(model, str(set_[-1].payload["version"]), str(set_[-1].payload["digest"])) if set_ else None
