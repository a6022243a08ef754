"""Looking at models as they are: every region, edge and alias at once; what does not answer is seen as just that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fleet.errors import ConvoyError, TransientError, UnknownName
from flows.desires import CANDIDATE, CHAMPION
from flows.house import House
from flows.plan_values import Kept, Observations, Place, Routed, Running, SeenEdges, SeenModel, SeenRegion, Unseen, Wanted
from flows.wanting import rules_digest
from traffic.edge_state import EdgeState, ModelState
from traffic.edges import Looked, look

T = TypeVar("T")
MOST_AT_ONCE = 16


def observe_models(house: House, wanted: Mapping[str, Wanted]) -> Observations:
    """Return what is to be seen of several models now."""
    at = house.ledger.now()
    edges = look_at_edges(house)
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        places = [(each, region) for each in wanted.values() for region in house.fleet.regions]
        regions: dict[str, list[SeenRegion]] = {model: [] for model in wanted}
        for each, seen in zip(places, pool.map(lambda place: see_region(house, *place), places), strict=True):
            regions[each[0].model] += [seen] if _matters(each[0], seen) else []
        aliases = dict(zip(wanted, pool.map(lambda each: _aliases(house, each), wanted.values()), strict=True))
    return Observations(at, tuple(SeenModel(model, tuple(regions[model]), edges_of(edges, model), *aliases[model]) for model in wanted))


def observe_model(house: House, wanted: Wanted) -> SeenModel:
    """Return what is to be seen of one model now."""
    return observe_models(house, {wanted.model: wanted}).models[0]


def see_region(house: House, wanted: Wanted, region: str) -> SeenRegion:
    """Return what runs of a model in a region, and what the region's store says of it."""
    store = _seen(lambda: _kept(house, wanted, region)) if region in wanted.regions else Kept(holds=False)
    return SeenRegion(region, _seen(lambda: _running(house, wanted, region)), store)


def look_at_edges(house: House) -> Looked | Unseen:
    """Return what every edge says of itself, or why nobody knows which edges there are."""
    return _seen(lambda: look(house.edges))


def edges_of(looked: Looked | Unseen, model: str) -> tuple[SeenEdges, ...]:
    """Return what the edges have for a model; those that say the same stand together."""
    if isinstance(looked, Unseen):
        return (SeenEdges(("of the fleet",), looked),)
    same: dict[Routed | Unseen | None, list[str]] = {}
    for state in looked.states:
        same.setdefault(_routed(state, model), []).append(state.edge)
    for failure in looked.failures:
        same.setdefault(_unseen(failure.error), []).append(failure.edge)
    return tuple(SeenEdges(tuple(names), routed) for routed, names in same.items())


def routed_of(state: ModelState) -> Routed:
    """Return what an edge has for a model, as the planner takes it."""
    weights = tuple((each.revision, each.percent) for each in state.weights)
    places = tuple(Place(each.revision, each.region, f"{each.host}:{each.port}") for each in state.table.backends)
    return Routed(weights, places, rules_digest(state.table.rules), state.table.epoch)


def _matters(wanted: Wanted, seen: SeenRegion) -> bool:
    """Whether a region says anything of a model: it is one of its own, or it runs something of it."""
    return seen.region in wanted.regions or bool(seen.running and not isinstance(seen.running, Unseen))


def _running(house: House, wanted: Wanted, region: str) -> tuple[Running, ...]:
    found = house.target(region).status(wanted.model, region)
    return tuple(
        Running(each.revision, each.state, f"{each.endpoint.host}:{each.endpoint.port}" if each.endpoint else None) for each in found
    )


def _kept(house: House, wanted: Wanted, region: str) -> Kept:
    store = house.region_store(region)
    ref = store.resolve(wanted.model)
    holds = wanted.stable is not None and store.has_blob(wanted.stable.digest)
    return Kept(holds, ref.digest if ref else None, ref.epoch if ref else 0)


def _aliases(house: House, wanted: Wanted) -> tuple[str | Unseen | None, str | Unseen | None]:
    """Return what `champion` and `candidate` name."""
    return _seen(lambda: _champion(house, wanted)), _seen(lambda: _candidate(house, wanted))


def _champion(house: House, wanted: Wanted) -> str | None:
    """Return what the alias names; raises UnknownName where it must be set to a version that MLflow has lost."""
    if wanted.stable is None:
        return None
    named = house.models.alias(wanted.model, CHAMPION)
    if named != wanted.stable.version:
        house.models.version(wanted.model, wanted.stable.version)
    return named


def _candidate(house: House, wanted: Wanted) -> str | None:
    """Return what the alias names; raises UnknownName where it must follow to a version that MLflow has lost."""
    alias = wanted.candidate
    try:
        named = house.models.alias(wanted.model, CANDIDATE)
    except UnknownName:
        return None
    if alias.owed is not None and named == alias.instead_of:
        house.models.version(wanted.model, alias.owed)
    return named


def _routed(state: EdgeState, model: str) -> Routed | None:
    found = state.of(model)
    return None if found is None else routed_of(found)


def _seen(look_: Callable[[], T]) -> T | Unseen:
    try:
        return look_()
    except ConvoyError as problem:
        return _unseen(problem)


def _unseen(problem: ConvoyError) -> Unseen:
    return Unseen(str(problem), lasting=not isinstance(problem, TransientError))
