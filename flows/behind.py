"""What is behind the last promotion, as the planner says: looked at only, nothing is changed and Prefect is not needed."""

from __future__ import annotations

from clouds.serving import Endpoint, State
from fleet.errors import TransientError
from fleet.versions import Revision
from flows.desires import CHAMPION
from flows.house import House
from flows.observing import observe_model, routed_of, see_region
from flows.plan import misrouted, plan_model, strays_in
from flows.plan_values import Plan, Wanted
from flows.rules import rules_of
from flows.wanting import rules_digest, wanted_of
from traffic.edges import Looked, look


def plan_now(house: House, model: str) -> Plan:
    """Return what is to be done about a model, from a look at all of it now."""
    wanted = wanted_of(house, model)
    return plan_model(wanted, observe_model(house, wanted))


def strays(house: House, model: str, region: str) -> tuple[str, ...]:
    """Return the revisions that run in a region and that nobody wants there."""
    wanted = wanted_of(house, model)
    return strays_in(wanted, see_region(house, wanted, region))


def ready_at(house: House, stable: Revision) -> dict[str, Endpoint]:
    """Return where the stable revision answers as ready, by region; one that cannot be asked is not among them."""
    return _answers(house, stable)[0]


def routable_at(house: House, stable: Revision) -> dict[str, Endpoint]:
    """Return where requests may go, by region: where the stable revision is ready.

    A region that cannot be asked keeps the place that the edges have for it where each of those finds it healthy: who
    manages a region may be away while its servers answer.
    """
    ready, unasked = _answers(house, stable)
    return ready | (_healthy_at(house, stable, unasked) if unasked else {})


def _answers(house: House, stable: Revision) -> tuple[dict[str, Endpoint], set[str]]:
    ready, unasked = {}, set()
    for region in house.model(stable.model).regions:
        try:
            status = house.target(region).status_of(region, stable.model, stable.digest)
        except TransientError:
            unasked.add(region)
            continue
        if status.state is State.READY and status.endpoint is not None:
            ready[region] = status.endpoint
    return ready, unasked


def _healthy_at(house: House, stable: Revision, regions: set[str]) -> dict[str, Endpoint]:
    places: dict[str, set[Endpoint]] = {}
    ill = set()
    for state in look(house.edges).states:
        seen = state.of(stable.model)
        if seen is None:
            continue
        for place in seen.table.backends:
            if place.revision == stable.digest and place.region in regions:
                places.setdefault(place.region, set()).add(Endpoint(place.host, place.port))
        ill |= {each.region for each in seen.backends if each.revision == stable.digest and each.healthy is not True}
    return {region: next(iter(found)) for region, found in places.items() if len(found) == 1 and region not in ill}


def edges_behind(house: House, stable: Revision, looked: Looked | None = None) -> list[str]:
    """Return which edges do not send everything to the stable revision, in every region where it is ready.

    They are looked at now, unless they were a moment ago.
    """
    looked = looked or look(house.edges)
    ready = {region: f"{endpoint.host}:{endpoint.port}" for region, endpoint in ready_at(house, stable).items()}
    lasting = [failure.error for failure in looked.failures if not isinstance(failure.error, TransientError)]
    if lasting:
        raise lasting[0]
    found = [str(failure.error) for failure in looked.failures]
    wanted = Wanted(stable.model, house.model(stable.model).regions, stable, rules=rules_digest(rules_of(house.fleet, stable.model)))
    for state in looked.states:
        seen = state.of(stable.model)
        found += [f"edge {state.edge}: {why}" for why in misrouted(wanted, stable, None if seen is None else routed_of(seen), ready)]
    return found


def champion_behind(house: House, stable: Revision) -> list[str]:
    """Return whether the alias champion, which Convoy alone writes, names something else than the stable version.

    Raises TransientError when MLflow cannot be asked.
    """
    champion = house.models.alias(stable.model, CHAMPION)
    return [] if champion == stable.version else [f"alias {CHAMPION} names {champion or 'nothing'} instead of {stable.version}"]
