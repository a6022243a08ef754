"""`convoy release` and `convoy rollback`."""

from __future__ import annotations

import getpass
import time

from control.doors import request_release, request_rollback
from control.printing import out, print_json, progress
from control.views import ReleaseView, release_views
from fleet.errors import ExitCode, UnknownName
from fleet.phases import ReleasePhase
from flows.desires import Desire
from flows.house import House

POLL_SECONDS = 0.5
ENDINGS = {
    ReleasePhase.PROMOTED: ExitCode.DONE,
    ReleasePhase.REJECTED: ExitCode.REJECTED,
    ReleasePhase.ROLLED_BACK: ExitCode.ROLLED_BACK,
    ReleasePhase.SUPERSEDED: ExitCode.FAILED,
    ReleasePhase.FAILED: ExitCode.FAILED,
}


def start_release(model: str, version: str, again: bool, wait: bool, as_json: bool) -> ExitCode:
    """Ask for a release, follow it if wanted, and return how it ended."""
    house = House.open()
    house.ledger.verify()
    return _follow(house, request_release(house, model, version, again, actor()), wait, as_json)


def start_rollback(model: str, version: str | None, wait: bool, as_json: bool) -> ExitCode:
    """Ask for a rollback, follow it if wanted, and return how it ended."""
    house = House.open()
    house.ledger.verify()
    return _follow(house, request_rollback(house, model, version, actor()), wait, as_json)


def actor() -> str:
    """Return who acts, as the ledger records it."""
    return f"convoy command ({getpass.getuser()})"


def view_of(house: House, model: str, release: str) -> ReleaseView:
    """Return one release of a model; raises UnknownName."""
    for view in release_views(house.ledger, model):
        if view.release == release:
            return view
    raise UnknownName(f"release '{release}'", f"model '{model}' has none by that name", "See `convoy ledger show`.")


def wait_for_end(house: House, model: str, release: str, quiet: bool = False) -> ReleaseView:
    """Return a release once it has ended; tells each phase on stderr as it is entered."""
    told = ""
    while True:
        view = view_of(house, model, release)
        if view.phase != told and not quiet:
            progress.print(f"{view.release} version {view.version}: [bold]{view.phase}[/]  {view.meaning}")
        told = view.phase
        if ReleasePhase(view.phase).terminal:
            return view
        time.sleep(POLL_SECONDS)


def _follow(house: House, desire: Desire, wait: bool, as_json: bool) -> ExitCode:
    view = wait_for_end(house, desire.model, desire.release) if wait else view_of(house, desire.model, desire.release)
    if as_json:
        print_json(view.model_dump(mode="json"))
    else:
        out.print(f"{view.release}: version {view.version} of {view.model} is [bold]{view.phase}[/]. {view.meaning}")
        for reason in view.reasons:
            out.print(f"  {reason}")
    return ENDINGS.get(ReleasePhase(view.phase), ExitCode.DONE) if wait else ExitCode.DONE
