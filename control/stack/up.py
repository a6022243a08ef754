"""Starts the local stack, or what is missing of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from clouds.local.files import exclusive, write_private
from clouds.local.supervisor import STOPPED_STATES, Supervisor, launch
from control.stack.components import PROCESSES, ROOT, RUNNER, Component, Site, components, edge_components, runner
from control.stack.edges import lay_out_edges
from control.stack.marked import end_marked
from control.stack.orchestrator import ensure_deployments
from control.stack.ports import claimed
from control.stack.records import check_same_ledger, ensure_credentials, ensure_operators, record_ledger, record_stack, recorded_stack
from control.stack.view import StackView, view_of
from control.stack.waiting import Waiting
from fleet.declared import Fleet
from fleet.declared_store import origin_place
from fleet.edges import edge_offsets, wanted_regions
from fleet.errors import InputError
from fleet.home import Home
from fleet.reading import read_fleet
from fleet.settings import Settings, store_environment

LOCK_SECONDS = 240.0
HEALTHY_SECONDS = 180.0

Report = Callable[[str], None]


def up(settings: Settings, report: Report) -> StackView:
    """Have the whole stack running and healthy, and return its state; `report` is told of each step.

    Idempotent: what runs is left alone, what is missing or changed is started. Two at once are one stack. Nothing is
    started when fleet.yaml or the ledger's URL is wrong, a port is taken (InputError), or a ledger elsewhere does not
    answer (Unreachable). Raises OperationFailed with the end of the log
    of a component that does not get healthy; what was started stays, so that it can be looked at.
    """
    home = Home.of(settings)
    home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.root.chmod(0o700)
    with exclusive(home.root / "stack.lock", LOCK_SECONDS):
        fleet = check_fleet(settings, home)
        declared, carried = tuple(fleet.regions), carried_for(settings, fleet)
        check_same_ledger(home, settings.ledger_url)
        ensure_operators(home)
        if settings.ledger_url is not None:
            _migrate_ledger(home, settings.ledger_url)
        if Supervisor.of(home).alive():
            site = replace(_running(settings, home), carried=carried)
            lay_out_edges(site, declared, report)
            return _complete(site, report)
        return _start(settings, home, (declared, carried), report)


def carried_for(settings: Settings, fleet: Fleet) -> dict[str, str]:
    """Return what this shell has of credentials for the kinds of stores that lie elsewhere; nothing where none does."""
    places = (origin_place(settings), *(region.store_place for region in fleet.regions.values()))
    return store_environment(sorted({place.kind for place in places if place is not None}))


def check_fleet(settings: Settings, home: Home) -> Fleet:
    """Read fleet.yaml whole; a home that has none is given the example. Raises FleetFileError."""
    if settings.fleet is None and not home.fleet_file.exists():
        write_private(home.fleet_file, (ROOT / "examples" / "fleet.yaml").read_bytes())
    return read_fleet(settings.fleet or home.fleet_file)


def _start(settings: Settings, home: Home, wanted: tuple[tuple[str, ...], Mapping[str, str]], report: Report) -> StackView:
    """Start the supervisor of a stack whose ports are free, after the end of what an earlier one left behind."""
    declared, carried = wanted
    before = recorded_stack(home)
    for name in end_marked(before.stack_id) if before else ():
        report(f"ended {name}, which an earlier supervisor left behind")
    more = edge_offsets(wanted_regions(home, settings.edges, declared))
    with claimed(before.port_base if before else None, settings.port_base, more) as port_base:
        stack = before or record_stack(home, port_base)
        report(f"stack {stack.stack_id} in {home.root}, ports from {stack.port_base}")
        site = Site(home, settings, stack, ensure_credentials(home), carried)
        lay_out_edges(site, declared, report)
        _prepare(site)
        launch(home, stack.stack_id)
        return _complete(site, report)


def _running(settings: Settings, home: Home) -> Site:
    stack = recorded_stack(home)
    if stack is None:
        raise InputError(str(home.stack_file), "is gone while its supervisor runs", "Restore it from a backup.")
    if settings.port_base not in (None, stack.port_base):
        raise InputError(f"CONVOY_PORT_BASE={settings.port_base}", f"this home's stack runs on the ports from {stack.port_base} on")
    return Site(home, settings, stack, ensure_credentials(home))


def _complete(site: Site, report: Report) -> StackView:
    """Start what is missing: the slow servers first, everything else while they boot, the runner last."""
    table = {component.name: component for component in components(site)}
    supervisor = Supervisor.of(site.home)
    _ensure(supervisor, site, (table["prefect"], table["mlflow"]))
    if site.settings.ledger_url is None:
        _migrate_ledger(site.home, None)
    _ensure(supervisor, site, (component for component in table.values() if not component.held))

    _wait(site, supervisor, table, report)
    _end_open_drills(site, report)
    return view_of(site)


def _wait(site: Site, supervisor: Supervisor, table: Mapping[str, Component], report: Report) -> None:
    """Wait for all, and do as early as possible what needs one of them."""
    waiting = Waiting(site, HEALTHY_SECONDS, report)

    def flows() -> None:
        waiting.healthy(table["prefect"])
        pool = ensure_deployments(site, report)
        if pool.type != PROCESSES:
            supervisor.remove(RUNNER)
            report(f"{RUNNER}: not here, the work pool {site.settings.work_pool} is of type {pool.type} and has workers of its own")
            return
        here = runner(site)
        _ensure(supervisor, site, (here,))
        waiting.healthy(here)

    def webhook() -> None:
        waiting.healthy(table["mlflow"])
        _watch_aliases(site)

    def rest() -> None:
        waiting.healthy(table["control"], table["meter"], *edge_components(site))

    with ThreadPoolExecutor(3) as pool:
        steps = [pool.submit(step) for step in (flows, webhook, rest)]
        try:
            for step in as_completed(steps):
                step.result()
        finally:
            waiting.given_up.set()


def _prepare(site: Site) -> None:
    """Make the folders that the programs start in."""
    for component in components(site):
        component.directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _ensure(supervisor: Supervisor, site: Site, wanted: Iterable[Component]) -> None:
    """Have programs supervised as the table says; those that gave up are tried again."""
    for component in wanted:
        supervisor.add(component.program(site))
        if supervisor.state(component.name) in STOPPED_STATES:
            supervisor.start(component.name)


def _migrate_ledger(home: Home, url: str | None) -> None:
    """Bring the ledger's tables up to date, and write down where it is now that it was reached."""
    from registry.ledger import Ledger

    ledger = Ledger(url or f"sqlite:///{home.ledger_file}")
    ledger.migrate()
    ledger.close()
    record_ledger(home, url)


def _end_open_drills(site: Site, report: Report) -> None:
    """Put back a region whose drill was killed; reconcile would, within a minute."""
    from flows.drill_journal import drilled_regions, open_drill
    from registry.ledger import Ledger

    ledger = Ledger(site.settings.ledger_url or f"sqlite:///{site.home.ledger_file}")
    if any(open_drill(ledger, region) for region in drilled_regions(ledger)):
        from flows.drill_mending import end_open_drills
        from flows.house import House

        for done in end_open_drills(House(site.settings, site.home), "convoy up", report):
            report(done)
    ledger.close()


def _watch_aliases(site: Site) -> None:
    from registry.models import MlflowModels

    MlflowModels(site.stack.mlflow_url).watch(f"{site.stack.control_url}/webhooks/mlflow", site.credentials.webhook_secret)
