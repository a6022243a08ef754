"""What is behind the last promotion: looked at only, nothing is changed and Prefect is not needed."""

from __future__ import annotations

from collections.abc import Mapping

from clouds.serving import Endpoint, State
from fleet.canonical import short
from fleet.errors import TransientError
from fleet.versions import Revision
from flows.desires import CHAMPION, unfinished
from flows.house import House
from flows.rules import rules_of
from flows.work import release_revision, stable_of
from traffic.edges import Looked, look
from traffic.table import RoutingTable


def region_behind(house: House, stable: Revision, region: str) -> list[str]:
    """Return why a region is behind the stable revision, in words; nothing when it is not."""
    found = []
    status = house.target(region).status_of(region, stable.model, stable.digest)
    if status.state is not State.READY:
        found.append(f"{region}: {short(stable.digest)} is {status.state.value}")
    ref = house.region_store(region).resolve(stable.model)
    if ref is None or ref.digest != stable.digest:
        found.append(f"{region}: its store does not name {short(stable.digest)}")
    return found + [f"{region}: {short(digest)} runs and nobody wants it" for digest in strays(house, stable.model, region)]


def strays(house: House, model: str, region: str) -> list[str]:
    """Return the revisions that run in a region and are neither stable nor of a release under way."""
    stable = stable_of(house, model)
    under_way = [release_revision(house, desire) for desire in unfinished(house.ledger, model)]
    wanted = {found.digest for found in (stable, *under_way) if found is not None}
    return [status.revision for status in house.target(region).status(model, region) if status.revision not in wanted]


def ready_at(house: House, stable: Revision) -> dict[str, Endpoint]:
    """Return where the stable revision answers as ready, by region."""
    regions = house.model(stable.model).regions
    seen = {region: house.target(region).status_of(region, stable.model, stable.digest) for region in regions}
    return {region: status.endpoint for region, status in seen.items() if status.state is State.READY and status.endpoint is not None}


def misrouted(table: RoutingTable, digest: str, ready: Mapping[str, Endpoint]) -> list[str]:
    """Return which ready regions an edge's table does not have, or has at another place.

    A region that is not ready is no reason: it is brought back first, and is looked at here once it is.
    """
    routed = {backend.region: Endpoint(backend.host, backend.port) for backend in table.backends if backend.revision == digest}
    found = []
    for region, endpoint in ready.items():
        if region not in routed:
            found.append(f"{region} is ready and gets no requests")
        elif routed[region] != endpoint:
            found.append(f"{region} answers on port {endpoint.port}, its requests go to {routed[region].port}")
    return found


def edges_behind(house: House, stable: Revision, looked: Looked | None = None) -> list[str]:
    """Return which edges do not send everything to the stable revision, in every region where it is ready.

    They are looked at now, unless they were a moment ago.
    """
    looked, ready = looked or look(house.edges), ready_at(house, stable)
    lasting = [failure.error for failure in looked.failures if not isinstance(failure.error, TransientError)]
    if lasting:
        raise lasting[0]
    found = [str(failure.error) for failure in looked.failures]
    for state in looked.states:
        seen = state.of(stable.model)
        if seen is None or seen.percent_of(stable.digest) != 100:
            found.append(f"edge {state.edge}: {short(stable.digest)} does not have all requests")
        else:
            found += [f"edge {state.edge}: {why}" for why in misrouted(seen.table, stable.digest, ready)]
            if seen.table.rules != rules_of(house.fleet, stable.model):
                found.append(f"edge {state.edge}: its rules are not those that fleet.yaml declares for traffic")
    return found


def champion_behind(house: House, stable: Revision) -> list[str]:
    """Return whether the alias champion, which Convoy alone writes, names something else than the stable version.

    Raises TransientError when MLflow cannot be asked.
    """
    champion = house.models.alias(stable.model, CHAMPION)
    return [] if champion == stable.version else [f"alias {CHAMPION} names {champion or 'nothing'} instead of {stable.version}"]
