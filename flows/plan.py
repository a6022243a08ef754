"""The planner: from what is wanted of a model and what was seen of it to what is to be done; pure, and always the same.

`reconcile` and `convoy plan` both ask it, so they never disagree. What could not be looked at is a doubt, and no reason
to stop anything: a revision is retired only where every edge was seen, and behind the routes that take it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clouds.serving import State
from fleet.canonical import short
from fleet.versions import Revision
from flows.desires import CANDIDATE, CHAMPION
from flows.plan_values import Action, Doubt, Of, Place, Plan, Routed, Running, SeenEdges, SeenModel, SeenRegion, Unseen, Verb, Wanted


def plan_model(wanted: Wanted, seen: SeenModel) -> Plan:
    """Return what is to be done about one model.

    While a release of it has something to do, that is all: it brings the rest with it. A model without a stable revision
    has nothing to be brought back.
    """
    releases = _releases(wanted, seen)
    if releases:
        return Plan(releases)
    aliases, doubts = _candidate(wanted, seen)
    if wanted.stable is None:
        return Plan(aliases, doubts)
    champion, unsure = _champion(wanted, wanted.stable, seen)
    regions = [action for region in seen.regions for action in _region(wanted, wanted.stable, region)]
    routes = [action for group in seen.edges for action in _routes(wanted, wanted.stable, seen, group)]
    retired = _retirements(wanted, seen) if not edges_unseen(seen) else ()
    doubts = (*_region_doubts(wanted, seen), *_edge_doubts(wanted, seen), *doubts, *unsure)
    return Plan((*regions, *routes, *aliases, *champion, *retired), doubts)


def edges_unseen(seen: SeenModel) -> bool:
    """Whether some edge may route what nobody knows."""
    return not seen.edges or any(isinstance(group.routed, Unseen) for group in seen.edges)


def may_be_asked(seen: SeenModel, revision: str) -> bool:
    """Whether some edge may still send a revision a request: one that routes to it, or that could not be seen."""
    if edges_unseen(seen):
        return True
    return any(isinstance(group.routed, Routed) and group.routed.may_ask(revision) for group in seen.edges)


def ready_in(stable: Revision, regions: Iterable[SeenRegion]) -> dict[str, str]:
    """Return where the stable revision answers as ready, by region."""
    found = {}
    for region in regions:
        for running in region.running if not isinstance(region.running, Unseen) else ():
            if running.revision == stable.digest and running.state is State.READY and running.at is not None:
                found[region.region] = running.at
    return found


def strays_in(wanted: Wanted, region: SeenRegion) -> tuple[str, ...]:
    """Return the revisions that run in a region and that nobody wants there."""
    if isinstance(region.running, Unseen):
        return ()
    return tuple(each.revision for each in region.running if not wanted.may_run(region.region, each.revision))


def misrouted(wanted: Wanted, stable: Revision, routed: Routed | None, ready: Mapping[str, str]) -> list[str]:
    """Return what is wrong with what an edge routes, in words.

    A region that is not ready is no reason: it is brought back first, and is looked at here once it is.
    """
    if routed is None or routed.percent_of(stable.digest) != 100:
        return [f"{short(stable.digest)} does not have all requests{_written(routed)}"]
    found = [f"{short(other)} can still be asked there{_written(routed)}" for other in _others(stable, routed.places)]
    places = {place.region: place.at for place in routed.places if place.revision == stable.digest}
    for region, at in ready.items():
        if region not in wanted.regions:
            continue
        if region not in places:
            found.append(f"{region} is ready and gets no requests")
        elif places[region] != at:
            found.append(f"{region} answers on port {_port(at)}, its requests go to {_port(places[region])}")
    found += [f"{region} gets requests and is not among the model's regions" for region in places if region not in wanted.regions]
    return found + ([] if routed.rules == wanted.rules else ["its rules are not those that fleet.yaml declares for traffic"])


def _releases(wanted: Wanted, seen: SeenModel) -> tuple[Action, ...]:
    told = [
        Action(Verb.RELEASE, wanted.model, each.release, each.version, f"{each.release} (version {each.version}) is unfinished")
        for each in wanted.waiting
    ]
    if not isinstance(seen.candidate, Unseen) and seen.candidate is not None and wanted.candidate.opens(seen.candidate):
        why = f"alias {CANDIDATE} names version {seen.candidate}, of which no release has begun"
        told.append(Action(Verb.RELEASE, wanted.model, f"alias {CANDIDATE}", seen.candidate, why))
    return tuple(told)


def _candidate(wanted: Wanted, seen: SeenModel) -> tuple[tuple[Action, ...], tuple[Doubt, ...]]:
    """Return the alias `candidate` as a rollback wants it, which it has not followed yet."""
    if isinstance(seen.candidate, Unseen):
        return (), (Doubt(Of.ALIAS, wanted.model, f"alias {CANDIDATE}", seen.candidate.why, seen.candidate.lasting),)
    owed = wanted.candidate.owed
    if owed is None or seen.candidate == owed or seen.candidate != wanted.candidate.instead_of:
        return (), ()
    why = f"it names {seen.candidate or 'nothing'} and has still to follow the rollback to version {owed}"
    return (Action(Verb.ALIAS, wanted.model, CANDIDATE, owed, why),), ()


def _champion(wanted: Wanted, stable: Revision, seen: SeenModel) -> tuple[tuple[Action, ...], tuple[Doubt, ...]]:
    if isinstance(seen.champion, Unseen):
        return (), (Doubt(Of.ALIAS, wanted.model, f"alias {CHAMPION}", seen.champion.why, seen.champion.lasting),)
    if seen.champion == stable.version:
        return (), ()
    why = f"it names {seen.champion or 'nothing'} instead of {stable.version}, which Convoy alone writes"
    return (Action(Verb.ALIAS, wanted.model, CHAMPION, stable.version, why),), ()


def _region(wanted: Wanted, stable: Revision, region: SeenRegion) -> list[Action]:
    """Return what brings the stable revision back to a region; nothing for one that is not the model's any more, or must not have it."""
    if region.region not in wanted.regions or wanted.bars(region):
        return []

    def act(verb: Verb, why: str) -> Action:
        return Action(verb, wanted.model, region.region, stable.digest, why)

    found, store = [], region.store
    if not isinstance(store, Unseen) and not store.holds:
        found.append(act(Verb.COPY, f"its store does not have {short(stable.digest)}"))
    if not isinstance(region.running, Unseen) and (state := _state_of(region.running, stable)) is not State.READY:
        found.append(act(Verb.START, f"{short(stable.digest)} is {state.value}"))
    if not isinstance(store, Unseen) and store.names != stable.digest:
        instead = f"but {short(store.names)}, since epoch {store.epoch}" if store.names else "nor any other"
        found.append(act(Verb.POINT, f"its store does not name {short(stable.digest)} {instead}"))
    return found


def _state_of(running: Iterable[Running], stable: Revision) -> State:
    return next((each.state for each in running if each.revision == stable.digest), State.ABSENT)


def _routes(wanted: Wanted, stable: Revision, seen: SeenModel, group: SeenEdges) -> list[Action]:
    if isinstance(group.routed, Unseen):
        return []
    found = misrouted(wanted, stable, group.routed, ready_in(stable, seen.regions))
    if not found and group.routed is not None:
        found = _once_started(wanted, stable, seen, group.routed)
    return [Action(Verb.ROUTE, wanted.model, f"edge {name}", stable.digest, "; ".join(found)) for name in group.names if found]


def _once_started(wanted: Wanted, stable: Revision, seen: SeenModel, routed: Routed) -> list[str]:
    """Return which regions an edge must be told of once they were started."""
    places = {place.region: place.at for place in routed.places if place.revision == stable.digest}
    found = []
    for region in seen.regions:
        if isinstance(region.running, Unseen) or region.region not in wanted.regions or wanted.bars(region):
            continue
        if _state_of(region.running, stable) is State.READY:
            continue
        at = next((each.at for each in region.running if each.revision == stable.digest), None)
        if region.region not in places:
            found.append(f"{region.region} will be ready and gets no requests")
        elif places[region.region] != at:
            found.append(f"{region.region} may be ready at another port than its requests go to")
    return found


def _retirements(wanted: Wanted, seen: SeenModel) -> tuple[Action, ...]:
    return tuple(
        Action(Verb.RETIRE, wanted.model, region.region, revision, f"{short(revision)} runs and nobody wants it")
        for region in seen.regions
        for revision in strays_in(wanted, region)
    )


def _region_doubts(wanted: Wanted, seen: SeenModel) -> Iterable[Doubt]:
    for region in seen.regions:
        for what, found in (("what runs there", region.running), ("its store", region.store)):
            if isinstance(found, Unseen):
                yield Doubt(Of.REGION, wanted.model, region.region, f"{what} is not known: {found.why}", found.lasting)
        if why := wanted.bars(region):
            yield Doubt(Of.FORBIDDEN, wanted.model, region.region, f"the stable revision is not copied there: {why}", lasting=True)


def _edge_doubts(wanted: Wanted, seen: SeenModel) -> Iterable[Doubt]:
    for group in seen.edges:
        if isinstance(group.routed, Unseen):
            for name in group.names:
                why = f"what it routes is not known, so nothing is stopped: {group.routed.why}"
                yield Doubt(Of.EDGE, wanted.model, f"edge {name}", why, group.routed.lasting)


def _others(stable: Revision, places: Iterable[Place]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place.revision for place in places if place.revision != stable.digest))


def _written(routed: Routed | None) -> str:
    return f" (table of epoch {routed.epoch})" if routed is not None and routed.epoch else ""


def _port(at: str) -> str:
    return at.rpartition(":")[2]
