"""What becomes of servers under load: killed, stopped, told to end, and back again."""

from __future__ import annotations

import signal
from collections.abc import Callable

from edge_harness import CANARY, STABLE, wait_until

from benchmarks.traffic_cases.scene import Scene

LOST = "us"


def signalled(number: signal.Signals) -> Callable[[Scene], None]:
    """Return the act that sends the stable server of one region a signal, and has it back after the outage."""

    def act(scene: Scene) -> None:
        scene.edge.upstreams[STABLE, LOST].signal(number)
        scene.go_on(scene.outage)
        scene.begin()

    return act


def lose_canary(scene: Scene) -> None:
    """Kill the canary in every region; the edge leaves it by itself."""
    scene.edge.lose(CANARY)
    wait_until(lambda: scene.edge.model().percent_of(CANARY) == 0, 20, "the safe shares")
    scene.go_on()
    scene.begin()
