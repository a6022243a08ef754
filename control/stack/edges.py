"""Brings a stack's edges to the layout that is wanted: those that go or move are ended, the others made ready to start."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from clouds.local.files import write_private
from clouds.local.supervisor import STOPPED_STATES, Supervisor
from control.stack.components import Site
from fleet.edges import EdgePlace, edge_places, wanted_regions

Report = Callable[[str], None]


def lay_out_edges(site: Site, declared: Sequence[str], report: Report) -> None:
    """Have the stack's edges as the settings want them; what stays where it was is left alone.

    An edge that is new, or comes back, begins with the newest tables of those that were there, on their safe shares: so
    callers need not wait for the next reconcile, and no epoch that has passed elsewhere is taken here.
    """
    before = [place for place in site.edges if site.home.edge(place.name).exists()]
    regions = wanted_regions(site.home, site.settings.edges, declared)
    wanted = edge_places(site.stack, regions)
    for place in before:
        if place not in wanted:
            _end(site, place)
            report(f"edge {place.name}: ended, it is not wanted at port {place.port} any more")
    for place in wanted:
        if not _runs(site, place):
            _make_ready(site, place)
        if place not in before:
            _inherit(site, place, before)
    # Last, so that a start that is killed before it is done again
    if regions:
        write_private(site.home.edges_file, json.dumps({"regions": list(regions)}).encode())
    else:
        site.home.edges_file.unlink(missing_ok=True)


def _end(site: Site, place: EdgePlace) -> None:
    supervisor = Supervisor.of(site.home)
    for program in (place.agent_program, place.gateway_program):
        if supervisor.alive():
            supervisor.remove(program)
        else:
            supervisor.file(program).unlink(missing_ok=True)


def _runs(site: Site, place: EdgePlace) -> bool:
    supervisor = Supervisor.of(site.home)
    return supervisor.alive() and supervisor.state(place.agent_program) not in STOPPED_STATES


def _make_ready(site: Site, place: EdgePlace) -> None:
    """Write the files that an edge starts from; while it runs, they belong to its agent."""
    from traffic.envoy import EdgePorts
    from traffic.gateway import bootstrap

    folder = site.home.edge(place.name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    bootstrap(folder, place.name, EdgePorts(listener=place.port, admin=place.admin_port), site.settings.trusted_proxies)
    write_private(site.edge_token_file(place), place.token(site.credentials.edge_token).encode())


def _inherit(site: Site, place: EdgePlace, before: Sequence[EdgePlace]) -> None:
    from traffic.memory import Memory

    memory = Memory.below(site.home.edge(place.name))
    held = memory.read()
    for other in before:
        for model, found in Memory.below(site.home.edge(other.name)).read().items():
            if model not in held or held[model].table.order < found.table.order:
                held[model] = found.falling_back("the edge is new")
    memory.write(held)
