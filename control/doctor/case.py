"""The case on the table: what the installation is made of, opened part by part so that one broken part hides no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from control.doctor.findings import Finding, Level, from_error, ok, problem, warning
from fleet.errors import InputError
from fleet.home import Home
from fleet.settings import settings

if TYPE_CHECKING:
    from control.stack.components import Site
    from flows.house import House


class Need(StrEnum):
    """What a check cannot do without."""

    SETTINGS = "settings"
    FLEET = "fleet.yaml"
    STACK = "stack"
    LEDGER = "ledger"
    RUNNING = "supervisord"


@dataclass
class Case:
    """One examination. `missing` says why a need is not there; a check is only run when all of its needs are."""

    opened: House | None = None
    missing: dict[Need, str] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def house(self) -> House:
        """The installation; raises InputError while the settings are wrong."""
        if self.opened is None:
            raise InputError("settings", "are wrong, so nobody knows where the installation is")
        return self.opened

    @property
    def home(self) -> Home:
        """Where everything lies."""
        return self.house.home

    @property
    def site(self) -> Site:
        """The stack as its programs are made from it."""
        from control.stack.components import Site

        return Site(self.home, self.house.settings, self.house.stack, self.house.credentials)

    def lacks(self, needs: Iterable[Need]) -> Need | None:
        """Return the first need that is not there."""
        return next((need for need in needs if need in self.missing), None)


def open_case() -> tuple[Case, tuple[Finding, ...]]:
    """Open everything that checks need, and return with it what was found by that."""
    case = Case()
    findings: list[Finding] = []
    for need, (opening, needs) in OPENINGS.items():
        lacking = case.lacks(needs)
        if lacking is not None:
            case.missing[need] = case.missing[lacking]
            continue
        try:
            found = opening(case)
        except Exception as error:  # noqa: BLE001 - whatever is broken is what the doctor is here to tell
            found = from_error(need.value, error)
        if found.level is not Level.OK:
            case.missing[need] = f"{found.subject} {found.reason}"
        findings.append(found.model_copy(update={"check": need.value}))
    return case, tuple(findings)


def _settings(case: Case) -> Finding:
    from flows.house import House

    found = settings()
    case.opened = House(found, Home.of(found))
    return ok("settings", f"the home is {case.home.root}")


def _stack(case: Case) -> Finding:
    from control.stack.records import recorded_stack

    found = recorded_stack(case.home)
    if found is None:
        return warning(f"stack in {case.home.root}", "was never started", "convoy up")
    # Read here once, so that one broken file is one finding
    _ = case.house.credentials
    return ok("stack", f"{found.stack_id}, ports from {found.port_base}")


def _fleet(case: Case) -> Finding:
    house = case.house
    fresh = not house.home.stack_file.exists() and house.settings.fleet is None and not house.home.fleet_file.exists()
    if fresh:
        return warning(str(house.home.fleet_file), "is not there yet; the first start writes an example", "convoy up")
    fleet = house.fleet
    return ok("fleet.yaml", f"declares {', '.join(fleet.models)} in {', '.join(fleet.regions)}")


def _running(case: Case) -> Finding:
    from clouds.local.supervisor import Supervisor

    supervisor = Supervisor.of(case.home)
    if not supervisor.alive():
        return problem("supervisord", f"does not answer on {supervisor.socket}: the stack is stopped", "convoy up")
    return ok("supervisord", f"runs as process {supervisor.pid()}")


def _ledger(case: Case) -> Finding:
    ledger = case.house.ledger
    file = Path(ledger.database.url.database) if ledger.database.sqlite and ledger.database.url.database else None
    # Opening SQLite would create the file, and the doctor changes nothing
    if file is not None and not file.exists():
        if not case.home.stack_file.exists():
            return warning(str(file), "is not there yet; the first start makes it", "convoy up")
        return problem(str(file), "is gone, and the next start would begin an empty ledger", f"cp YOUR-BACKUP {file}")
    count = ledger.verify()
    return ok(f"ledger {ledger.database.name}", f"its {count} events verify")


Opening = Callable[[Case], Finding]
OPENINGS: Mapping[Need, tuple[Opening, tuple[Need, ...]]] = {
    Need.SETTINGS: (_settings, ()),
    Need.FLEET: (_fleet, (Need.SETTINGS,)),
    Need.STACK: (_stack, (Need.SETTINGS,)),
    Need.LEDGER: (_ledger, (Need.SETTINGS,)),
    Need.RUNNING: (_running, (Need.STACK,)),
}
"""How each need is opened, and what that needs itself."""
