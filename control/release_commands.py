"""`convoy release` and `convoy rollback`."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.markup import escape

from control.doors import Answer, request_release, request_rollback
from control.printing import out, print_json, progress
from control.views import ReleaseView, release_views
from fleet.errors import ExitCode, OperationFailed, UnknownName
from fleet.phases import ReleasePhase
from flows.copying_told import in_words, read_progress
from flows.house import House

ACTOR = "convoy command"
POLL_SECONDS = 0.5
ENDINGS = {
    ReleasePhase.PROMOTED: ExitCode.DONE,
    ReleasePhase.REJECTED: ExitCode.REJECTED,
    ReleasePhase.ROLLED_BACK: ExitCode.ROLLED_BACK,
    ReleasePhase.SUPERSEDED: ExitCode.FAILED,
    ReleasePhase.FAILED: ExitCode.FAILED,
}


@dataclass(frozen=True, slots=True)
class Following:
    """How a request is followed: to its end or not, for how many seconds at most, told as JSON or not."""

    wait: bool
    seconds: float
    as_json: bool


def start_release(model: str, version: str, again: bool, following: Following) -> ExitCode:
    """Ask for a release, follow it if wanted, and return how it ended."""
    house = House.open()
    return _follow(house, request_release(house, model, version, again, ACTOR), following)


def start_rollback(model: str, version: str | None, following: Following) -> ExitCode:
    """Ask for a rollback, follow it if wanted, and return how it ended."""
    house = House.open()
    return _follow(house, request_rollback(house, model, version, ACTOR), following)


def view_of(house: House, model: str, release: str) -> ReleaseView:
    """Return one release of a model; raises UnknownName."""
    for view in release_views(house.ledger, model):
        if view.release == release:
            return view
    raise UnknownName(f"release '{release}'", f"model '{model}' has none by that name", "See `convoy ledger show`.")


def wait_for_end(house: House, model: str, release: str, quiet: bool = False, seconds: float | None = None) -> ReleaseView:
    """Return a release once it has ended; tells each phase on stderr as it is entered, and why it does not go on for now.

    Raises OperationFailed when it has not ended within `seconds` (None: no limit).
    """
    told, deadline = "", None if seconds is None else time.monotonic() + seconds
    why: tuple[str, ...] = ()
    copies: dict[str, str] = {}
    while True:
        view = view_of(house, model, release)
        if view.phase != told and not quiet:
            progress.print(f"{escape(view.release)} version {escape(view.version)}: [bold]{view.phase}[/]  {view.meaning}")
        if view.reasons and view.reasons != why and not view.ended and not quiet:
            progress.print("\n".join(f"  {reason}" for reason in view.reasons), markup=False)
        if view.phase == ReleasePhase.REPLICATING and not quiet:
            copies = _tell_copies(house, release, copies)
        told, why = view.phase, view.reasons
        if ReleasePhase(view.phase).terminal:
            return view
        if deadline is not None and time.monotonic() >= deadline:
            raise OperationFailed(
                f"release '{release}'",
                f"has not ended within {seconds:g} seconds, it is in phase '{view.phase}'",
                "; ".join((*view.reasons, "It goes on by itself once Prefect and its runner are well: see `convoy status`.")),
            )
        time.sleep(POLL_SECONDS)


def _tell_copies(house: House, release: str, before: dict[str, str]) -> dict[str, str]:
    """Tell how far each region's copy is, where that has changed."""
    now = {region: in_words(found) for region, found in read_progress(house.home, release).items()}
    for region, says in now.items():
        if before.get(region) != says:
            progress.print(f"  {region}: {says}", markup=False)
    return before | now


def _follow(house: House, answer: Answer, following: Following) -> ExitCode:
    desire = answer.desire
    if answer.missing or not answer.woken:
        progress.print(f"[yellow]warning[/] {escape(answer.says)}")
    if following.wait:
        view = wait_for_end(house, desire.model, desire.release, seconds=following.seconds)
    else:
        view = view_of(house, desire.model, desire.release)
    if following.as_json:
        print_json(view.model_dump(mode="json"))
    else:
        where = f"{escape(view.release)}: version {escape(view.version)} of {escape(view.model)}"
        out.print(f"{where} is [bold]{view.phase}[/]. {view.meaning}")
        for reason in view.reasons:
            out.print(f"  {reason}", markup=False)
    return ENDINGS[ReleasePhase(view.phase)] if following.wait else ExitCode.DONE
