"""What a controller does to an edge under load: weights, ways back, tables that run out, configurations that Envoy refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_harness import CANARY, wait_until

from benchmarks.traffic_cases.scene import MODEL, Scene
from fleet.errors import ConvoyError, InputError, OperationFailed
from traffic.edges import make_safe

WEIGHTS = (1, 50, 5, 25, 10)
HALF = 50
LIVES_SECONDS = 1.0
WATCHED_SECONDS = 1.2
"""For so long after it should have left, a canary is watched for answers."""
UNREASONABLE_MS = 10**18
"""A latency from which timeouts derive that no Envoy takes."""


@dataclass(frozen=True, slots=True)
class Command:
    """A moment from which the canary should be silent, until when that was watched, and when it was confirmed (Unix seconds)."""

    at: float
    until: float
    confirmed: float | None = None


def change_weight(scene: Scene) -> None:
    """Put the next of the weights in force."""
    held = scene.edge.model().table.weight_of(CANARY)
    scene.put(WEIGHTS[(WEIGHTS.index(held) + 1) % len(WEIGHTS)])
    scene.go_on()


def roll_back(scene: Scene) -> Command:
    """Put half on the canary, then everything back on the safe shares, as a rollback does."""
    scene.put(HALF)
    scene.go_on()
    at = time.time()
    found = make_safe([scene.edge.client], MODEL, scene.edge.epoch)
    confirmed = time.time()
    assert found.complete, found.failures
    scene.go_on(at + WATCHED_SECONDS - time.time())
    return Command(at, time.time(), confirmed)


def let_expire(scene: Scene) -> Command:
    """Put half on the canary under a table that nobody renews."""
    table = scene.put(HALF, LIVES_SECONDS)
    scene.go_on(table.expires_at + WATCHED_SECONDS - time.time())
    assert scene.edge.model().on_safe_shares, "the safe shares are not in force"
    return Command(table.expires_at, time.time())


def refuse_before_use(scene: Scene) -> None:
    """Offer a raise that Envoy does not take; nothing may have changed."""
    files = scene.edge.files()
    table = replace(scene.table(HALF), latency_ms=UNREASONABLE_MS)
    _refused(lambda: scene.edge.client.prepare(table), InputError)
    assert scene.edge.files() == files, "Envoy's files have changed"
    scene.go_on()


def refuse_in_use(scene: Scene) -> None:
    """Write a configuration that the running Envoy does not take, as a lowering that is not checked first; then a correct one."""
    table = replace(scene.table(1), latency_ms=UNREASONABLE_MS)
    _refused(lambda: scene.edge.client.apply(table), OperationFailed)
    scene.begin()


def lose_agent(scene: Scene) -> None:
    """Kill the agent, start it again, and have it change a weight."""
    held = scene.edge.model().table
    scene.edge.agent.kill()
    scene.go_on()
    scene.edge.agent.start()
    scene.edge.wait_ready()
    assert scene.edge.model().table == held, "the agent has forgotten its table"
    wait_until(lambda: scene.edge.model().confirmed, 10, "the table")
    scene.put(held.weight_of(CANARY) + 1)


def _refused(verb: Callable[[], object], kind: type[ConvoyError]) -> None:
    try:
        verb()
    except kind:
        return
    raise AssertionError("it was not refused")
