"""Every case under one open-loop load: each request that was sent belongs to one of them."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_harness import CANARY

from benchmarks.form import Row
from benchmarks.traffic_cases import changes, servers
from benchmarks.traffic_cases.blame import answers, last_answer, within
from benchmarks.traffic_cases.callers import callers
from benchmarks.traffic_cases.changes import Command
from benchmarks.traffic_cases.figures import CONFIRMED, NONE_FAILED, OURS, SILENT, WITHIN, Ran, load_rows, not_run, rows_of
from benchmarks.traffic_cases.scene import BETWEEN_SECONDS, Scene, url_of
from fleet.errors import ConvoyError
from traffic.load import Sent

if TYPE_CHECKING:
    from edge_harness import RealEdge

ONLY_FULL = "only in the full run"


@dataclass(frozen=True, slots=True)
class Case:
    """What is done and how often; the quick run does it `quick` times. `asked` is what was asked for beside 0 failures."""

    name: str
    times: int
    quick: int
    act: Callable[[Scene], Command | None]
    asked: dict[str, float] = field(default_factory=dict)

    @property
    def targets(self) -> dict[str, float]:
        """What was asked for, by row."""
        return {OURS: NONE_FAILED, **self.asked}


def nothing(scene: Scene) -> None:
    """Leave everything as it is."""
    scene.go_on(1.0)


CASES = (
    Case("nothing happens", 20, 1, nothing),
    Case("a weight is changed", 50, 6, changes.change_weight),
    Case("a rollback to the safe weights", 10, 2, changes.roll_back, {SILENT: WITHIN}),
    Case("a table runs out", 5, 1, changes.let_expire),
    Case("a stable server is killed (SIGKILL)", 5, 1, servers.signalled(signal.SIGKILL)),
    Case("a stable server hangs (SIGSTOP)", 5, 1, servers.signalled(signal.SIGSTOP)),
    Case("a stable server is told to end (SIGTERM)", 5, 1, servers.signalled(signal.SIGTERM)),
    Case("the canary is killed everywhere", 5, 0, servers.lose_canary),
    Case("a configuration is refused before its use", 5, 1, changes.refuse_before_use),
    Case("a configuration is refused by the running Envoy", 3, 0, changes.refuse_in_use),
    Case("the agent is killed (SIGKILL)", 5, 1, changes.lose_agent),
)


@dataclass(frozen=True, slots=True)
class Done:
    """A case that was gone through, between two moments (Unix seconds)."""

    case: Case
    times: int
    begin: float
    end: float
    commands: tuple[Command, ...]
    broken: str


def rows(edge: RealEdge, folder: Path, quick: bool, outage: float) -> Iterator[Row]:
    """Go through every case, then give the rows of each."""
    scene = Scene(edge, outage)
    scene.slow_down()
    with callers(url_of(edge), folder / "cases.jsonl") as load:
        done = {found.case.name: found for found in _all(scene, quick)}
    sent = load.sent()
    for case in CASES:
        found = done.get(case.name)
        yield from rows_of(ran(found, sent), case.targets) if found else not_run(case.name, case.targets, ONLY_FULL)
    assert load.totals is not None
    yield from load_rows(load.totals)


def ran(done: Done, sent: Sequence[Sent]) -> Ran:
    """Hold what was done against what the callers saw; a canary that had not answered just before cannot be seen to fall silent."""
    seconds = {
        SILENT: tuple(last_answer(sent, CANARY, command.at, command.until) for command in done.commands),
        CONFIRMED: tuple(command.confirmed - command.at for command in done.commands if command.confirmed is not None),
    }
    silent = any(not answers(sent, CANARY, command.at - BETWEEN_SECONDS, command.at) for command in done.commands)
    broken = done.broken or ("the canary gave no answer just before the command" if silent else "")
    return Ran(done.case.name, done.times, tuple(within(sent, done.begin, done.end)), seconds, broken)


def _all(scene: Scene, quick: bool) -> list[Done]:
    """Go through the cases; each begins where the one before ended, the first with the load, and the last ends with it."""
    found: list[Done] = []
    for case in CASES:
        if times := case.quick if quick else case.times:
            found.append(_done(scene, case, times, found[-1].end if found else 0.0))
    return [*found[:-1], replace(found[-1], end=math.inf)]


def _done(scene: Scene, case: Case, times: int, begin: float) -> Done:
    commands, gone_through, broken = [], 0, ""
    try:
        scene.begin()
        for _ in range(times):
            commands.append(case.act(scene))
            gone_through += 1
        scene.begin()
    except (AssertionError, ConvoyError) as problem:
        broken = f"it did not go as it should after {gone_through} of {times} times: {type(problem).__name__}: {problem}"
    return Done(case, gone_through, begin, time.time(), tuple(command for command in commands if command is not None), broken)
