"""`convoy fleet`: every fleet.yaml that a release went by is shown, and restored, by its digest."""

from __future__ import annotations

import sys

from rich.markup import escape

from control.printing import out, print_json, print_table
from fleet.canonical import digest_of, short
from flows.fleet_kept import Restoration, fleet_history, kept_fleet, rehearse_restoration, restore_fleet
from flows.house import House

ACTOR = "convoy command"


def show_history(as_json: bool) -> None:
    """Print every fleet.yaml that the ledger knows, oldest first; the one in force is marked."""
    house = House.open()
    found, present = fleet_history(house), digest_of(house.fleet_text)
    if as_json:
        print_json(
            [{"digest": each.digest, "since": each.since, "releases": each.releases, "in_force": each.digest == present} for each in found]
        )
        return
    rows = [
        (
            short(each.digest),
            f"{each.since:%Y-%m-%d %H:%M:%S}",
            "in force" if each.digest == present else "",
            escape(", ".join(each.releases)),
        )
        for each in found
    ]
    print_table("fleet.yaml", ("digest", "since (UTC)", "", "releases"), rows)
    if all(each.digest != present for each in found):
        out.print(f"In force is {short(present)}, by which no release went yet.", markup=False)


def show_text(digest: str) -> None:
    """Print the bytes of a kept fleet.yaml; raises UnknownName."""
    sys.stdout.buffer.write(kept_fleet(House.open(), digest)[1])
    sys.stdout.buffer.flush()


def restore(digest: str, dry_run: bool, as_json: bool) -> None:
    """Print what a restoration changes, then do it unless it is only rehearsed; raises UnknownName, FleetFileError, InputError."""
    house = House.open()
    if dry_run:
        found = rehearse_restoration(house, digest)[0]
        _show(found, as_json, "Nothing was changed.")
        return
    if not as_json:
        out.print(rehearse_restoration(house, digest)[0].difference, markup=False, end="")
    found = restore_fleet(house, digest, ACTOR)
    told = f"{house.fleet_file} is {short(found.after)} now; reconcile goes by it. Back: `convoy fleet restore {short(found.before)}`."
    _show(found, as_json, told, differs=False)


def _show(found: Restoration, as_json: bool, told: str, differs: bool = True) -> None:
    if as_json:
        print_json(found)
        return
    if differs:
        out.print(found.difference or "It is the one in force.\n", markup=False, end="")
    out.print(told, markup=False)
