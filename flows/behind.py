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
    """Return where the stable revision answers as ready, by region."""
    regions = house.model(stable.model).regions
    seen = {region: house.target(region).status_of(region, stable.model, stable.digest) for region in regions}
    return {region: status.endpoint for region, status in seen.items() if status.state is State.READY and status.endpoint is not None}


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
