"""`convoy gates RELEASE`: what each gate said of a release, out of the ledger."""

from __future__ import annotations

import sys

from control.printing import print_json
from fleet.errors import ExitCode, UnknownName
from fleet.evidence import GateResult
from flows import effects
from flows.desires import desires, release_stream
from flows.gate_report import as_payload, report
from flows.house import House
from flows.said import said_so_far
from policies.gates import may_go_on


def show_gates(release: str, as_json: bool) -> ExitCode:
    """Print the gates' report, as markdown or JSON; returns 3 where they refused, as the release itself does.

    Raises UnknownName for a release that no gate looked at.
    """
    house = House.open()
    house.ledger.verify()
    results = results_of(house, release)
    if as_json:
        print_json({"release": release, "may_go_on": may_go_on(results), "results": [as_payload(result) for result in results]})
    else:
        sys.stdout.write(report(_title(house, release), results))
    return ExitCode.DONE if may_go_on(results) else ExitCode.REJECTED


def results_of(house: House, release: str) -> tuple[GateResult, ...]:
    """Return what every gate said of a release so far; raises UnknownName where none was asked."""
    events = house.ledger.stream(release_stream(release), "effect.completed")
    if not any(event.effect_key == effects.GATES for event in events):
        raise UnknownName(f"release '{release}'", "no gate has looked at it (a rollback passes none again)", "See `convoy status`.")
    return said_so_far(events)


def _title(house: House, release: str) -> str:
    named = [found for model in house.fleet.models for found in desires(house.ledger, model) if found.release == release]
    return f"{release} ({named[0].model} version {named[0].version})" if named else release
