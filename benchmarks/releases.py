"""How soon a release runs once its alias is set, and what it takes beside training, gates and the canary's waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import httpx

from benchmarks.form import Row, measured, skipped
from benchmarks.stack import MODEL
from flows.desires import release_stream

if TYPE_CHECKING:
    from control.views import ReleaseView
    from registry.events import Event
    from support.stack import TestStack

RUNNING, OVERHEAD = 10.0, 60.0
LOAD_RATE = 60.0


def quick_rows(stack: TestStack) -> list[Row]:
    """Release one version; the first one has no canary."""
    since, view = _moved(stack, stack.register(MODEL), 1)
    assert view.ended is not None
    gates = _gates(stack.house.ledger.stream(release_stream(view.release)))
    own = (view.ended - view.requested).total_seconds() - gates
    return [
        measured("alias set to release flow running", "Prefect's own start of the run", [since], "s", RUNNING),
        measured("a release's own overhead, three regions", "all but gates and the canary's phase", [own], "s", OVERHEAD),
        measured("a release's parts", "gates: contract, schema, metric in the sandbox", [gates], "s"),
        skipped("a release's parts", "canary's phase", "s", "only in the full run"),
        *_phases([view]),
        skipped("failed requests while the releases ran", f"at {LOAD_RATE:g} a second", "", "only in the full run", 0),
    ]


def rows(stack: TestStack, rounds: int) -> list[Row]:
    """Move the alias between two good versions under load; the first version's release warms everything up."""
    versions = [stack.register(MODEL)]
    _moved(stack, versions[0], 1)
    versions.append(stack.register(MODEL, offset=1.0))
    started, told = [], []
    with stack.load(MODEL, LOAD_RATE) as load:
        for number in range(rounds):
            since, release = _moved(stack, versions[(number + 1) % 2], number + 2)
            started.append(since)
            told.append(release)
    planned = sum(step.seconds for step in stack.house.model(MODEL).canary.steps)
    events = [stack.house.ledger.stream(release_stream(each.release)) for each in told]
    gates = [_gates(each) for each in events]
    canaries = [each.seconds["canary"] for each in told]
    totals = [(each.ended - each.requested).total_seconds() for each in told if each.ended]
    own = [total - gate - canary for total, gate, canary in zip(totals, gates, canaries, strict=True)]
    return [
        measured("alias set to release flow running", "Prefect's own start of the run", started, "s", RUNNING),
        measured("a release's own overhead, three regions", "all but gates and the canary's phase", own, "s", OVERHEAD),
        measured("a release's parts", "gates: contract, schema, metric in the sandbox", gates, "s"),
        measured("a release's parts", f"canary's phase (planned steps: {planned:g} s)", canaries, "s"),
        *_phases(told),
        measured(
            "failed requests while the releases ran", f"of {load.totals['sent']} at {LOAD_RATE:g} a second", [len(load.failed())], "", 0
        ),
    ]


def _moved(stack: TestStack, version: str, number: int) -> tuple[float, ReleaseView]:
    """Set the alias and wait for the end; returns how long the flow took to run, and the release."""
    before = time.time()
    stack.candidate(MODEL, version)
    view = stack.ended(MODEL, number)
    assert view.phase == "promoted", view.reasons
    return _run_started(stack, before) - before, view


def _run_started(stack: TestStack, after: float) -> float:
    """Return when Prefect saw the first run of the release deployment that began after a moment, in Unix seconds."""
    url = f"{stack.house.stack.prefect_url}/api/flow_runs/filter"
    query = {"flows": {"name": {"any_": ["release"]}}, "sort": "START_TIME_ASC", "limit": 200}
    runs = httpx.post(url, json=query, timeout=10, trust_env=False).raise_for_status().json()
    starts = [datetime.fromisoformat(run["start_time"]).timestamp() for run in runs if run["start_time"]]
    return min(start for start in starts if start > after)


def _gates(events: Sequence[Event]) -> float:
    """Return how long the effect `gates` took from its intent to its completion."""
    moments = {event.type: event.at for event in events if event.effect_key == "gates"}
    return (moments["effect.completed"] - moments["effect.intended"]).total_seconds()


def _phases(told: Sequence[ReleaseView]) -> list[Row]:
    names = [name for name in told[0].seconds if name != "canary"]
    return [measured("a release's phases", name, [each.seconds[name] for each in told], "s") for name in names]
