"""What is under way or behind: releases and drills that nobody holds, aliases that were moved by hand or still have to follow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from control.doctor.case import Case
from control.doctor.findings import Finding, ok, problem, warning
from fleet.errors import UnknownName
from flows.desires import Desire, alias_owed, model_stream, phase_of, release_stream, unfinished
from flows.parking import answerable_until, parked

if TYPE_CHECKING:
    from registry.leases import Lease

PATIENCE = timedelta(seconds=150)
"""Reconcile looks every minute, and its run needs some seconds to start."""


def unfinished_releases(case: Case) -> Iterator[Finding]:
    """Whether each release under way is held by a controller that tells its story."""
    house = case.house
    for model in house.fleet.models:
        waiting = unfinished(house.ledger, model)
        if not waiting:
            yield ok(f"releases of {model}", "none is unfinished")
            continue
        lease = alive(case, model)
        for desire in waiting:
            yield under_way(case, desire, None if lease is None else lease.holder)


def drills(case: Case) -> Iterator[Finding]:
    """Whether a region was lost in a drill that died, and was not put back."""
    from flows.drill_journal import drilled_regions, open_drill
    from flows.drill_mending import broken_by, held_by_drill

    ledger = case.house.ledger
    found = [(region, started) for region in drilled_regions(ledger) if (started := open_drill(ledger, region)) is not None]
    for region, started in found:
        drill = str(started.payload["drill"])
        if held_by_drill(alive(case, model) for model in broken_by(started)):
            yield ok(drill, f"is under way in {region}")
        else:
            yield problem(drill, f"its process ended before it did, and may have left {region} broken", "convoy up")
    if not found:
        yield ok("drills", "none is unfinished")


def alive(case: Case, model: str) -> Lease | None:
    """Return a model's lease that has not run out, None when nobody holds it; changes nothing."""
    lease = case.house.leases.recorded(model)
    return lease if lease is not None and lease.holder and lease.expires_at > datetime.now(UTC) else None


def under_way(case: Case, desire: Desire, holder: str | None) -> Finding:
    """Return how one unfinished release fares."""
    phase, last = phase_of(case.house.ledger, desire.release), last_sign(case, desire)
    quiet = case.now - last
    reason = f"version {desire.version} is in phase '{phase}', its last event is {_ago(quiet)} old"
    if parked(case.house, desire):
        until = answerable_until(case.house, desire)
        return ok(desire.release, f"version {desire.version} waits for approval until {until:%Y-%m-%d %H:%M:%S} UTC")
    if holder is not None:
        return ok(desire.release, f"{reason}; held by {holder}")
    if quiet < PATIENCE:
        return warning(desire.release, f"{reason}; nobody holds it now, reconcile takes it up within a minute", "convoy status --watch")
    return problem(desire.release, f"{reason}; nobody holds it, and reconcile should have taken it up", "convoy up; convoy status --watch")


def last_sign(case: Case, desire: Desire) -> datetime:
    """Return when a release was last heard of: its last event, or the wish itself."""
    events = case.house.ledger.stream(release_stream(desire.release))
    if events:
        return events[-1].at
    wished = [event.at for event in case.house.ledger.stream(model_stream(desire.model)) if event.payload.get("release") == desire.release]
    return wished[0] if wished else case.now


def aliases(case: Case) -> Iterator[Finding]:
    """Whether the alias champion names what is stable, and candidate has followed the last rollback."""
    from flows.behind import champion_behind
    from flows.work import stable_of

    house = case.house
    for model in house.fleet.models:
        stable, owed = stable_of(house, model), alias_owed(house.ledger, model)
        if owed is not None:
            yield warning(f"aliases of {model}", f"candidate has still to follow the rollback to version {owed}; reconcile sets it")
        if stable is None:
            continue
        try:
            wrong = champion_behind(house, stable)
        except UnknownName as gone:
            yield problem(f"aliases of {model}", f"{gone.reason}, though version {stable.version} serves", gone.remedy)
            continue
        for reason in wrong:
            why = f"{reason}: moved by hand, or a rollback without MLflow; reconcile sets it back"
            yield warning(f"aliases of {model}", why, "convoy status --watch")
        if not wrong and owed is None:
            yield ok(f"aliases of {model}", f"champion names version {stable.version}")


def _ago(passed: timedelta) -> str:
    seconds = max(0, int(passed.total_seconds()))
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
