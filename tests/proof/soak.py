"""A soak: releases back to back under load, the way callers start them, and nothing that grows beyond a bound."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.form import Row
from clouds.local.placements import placements
from clouds.local.supervisor import Supervisor
from control.doors import request_rollback
from control.stack.marked import marked
from fleet.phases import ReleasePhase
from flows.desires import CANDIDATE
from flows.work import stable_of
from proof.cases import REGIONS
from proof.results import Progress, Report
from proof.stage import ACTOR, Stage, staged
from support.waiting import wait_until

MODEL = "soak"
RATE = 25.0
ENDED_SECONDS = 240.0
GONE_SECONDS = 30.0
AT_LEAST = 2
"""Rounds without which nothing can be said about growth."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One release of a round: what asks for it, and how it must end."""

    name: str
    ask: Callable[[Stage], object]
    ends: ReleasePhase


TURNS = (
    Turn("promote", lambda stage: stage.house.models.set_alias(MODEL, CANDIDATE, "2"), ReleasePhase.PROMOTED),
    Turn("roll back by hand", lambda stage: request_rollback(stage.house, MODEL, None, ACTOR), ReleasePhase.PROMOTED),
    Turn("rolled back by the judge", lambda stage: stage.house.models.set_alias(MODEL, CANDIDATE, "3"), ReleasePhase.ROLLED_BACK),
)


@dataclass(frozen=True, slots=True)
class Bound:
    """What must not grow: by how much it may between the first round and the last, in its own unit; None: only told."""

    what: str
    may_grow: float | None


BOUNDS = (
    Bound("processes", 2),
    Bound("open files", 60),
    Bound("leases that are held", 0),
    Bound("revisions that run", 0),
    Bound("scratch folders", 0),
    Bound("folders of unpacked revisions", 0),
    Bound("memory (MiB)", None),
    Bound("ledger (KiB)", None),
    Bound("Prefect's database (MiB)", None),
    Bound("logs (MiB)", None),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the soak's options."""
    parser.add_argument("--minutes", type=float, default=10.0)


def run(given: argparse.Namespace, report: Report) -> None:
    """Release until the time is over, and compare what is there after the last round with the first."""
    done = Progress[tuple[str, ...]](0)
    samples: list[dict[str, float]] = []
    with staged({MODEL: "trade"}, alone=False) as stage:
        stage.have(MODEL, "3")
        stage.house.models.set_alias(MODEL, CANDIDATE, "1")
        ended(stage, 1)
        with stage.stack.load(MODEL, RATE) as load:
            until, count = time.monotonic() + 60 * given.minutes, 1
            while time.monotonic() < until or len(samples) < AT_LEAST:
                for turn in TURNS:
                    count += 1
                    done.result(turned(stage, turn, count))
                    done.step_of(turn.name, done.results[-1])
                samples.append(sample(stage))
                done.say(", ".join(f"{what} {value:g}" for what, value in samples[-1].items()))
        events = stage.house.ledger.verify()
        failed, sent = len(load.failed()), len(load.answers())
    report.cases = [held(bound, samples) for bound in BOUNDS]
    report.rows = [
        Row("releases, back to back", "Convoy", len(done.results), "releases"),
        Row("releases that ended otherwise", "Convoy", sum(bool(found) for found in done.results), "releases", target=0),
        Row("requests of callers", f"at {RATE:g} a second", sent, "requests"),
        Row("requests that failed", f"at {RATE:g} a second", failed, "requests", target=0),
        Row("events of the ledger, verified", "Convoy", events, "events"),
        Row("time", "the soak", given.minutes, "min"),
    ]


def turned(stage: Stage, turn: Turn, number: int) -> tuple[str, ...]:
    """Ask for the n-th release and wait for its end; returns what is not as it must be then."""
    turn.ask(stage)
    phase = ended(stage, number)
    wrong = [] if phase == turn.ends else [f"it is {phase} instead of {turn.ends}"]
    stable = stable_of(stage.house, MODEL)
    assert stable is not None

    def alone() -> bool:
        found = [[status.revision for status in stage.house.target(region).status(MODEL, region)] for region in REGIONS]
        return all(running == [stable.digest] for running in found)

    try:
        wait_until(alone, GONE_SECONDS, 0.2, "the stable revision runs alone in each region")
    except AssertionError as problem:
        wrong.append(str(problem))
    return tuple(wrong)


def ended(stage: Stage, number: int) -> str:
    """Wait for the end of the n-th release, and for its run to give the lease back; returns its phase."""
    phase = stage.stack.ended(MODEL, number, ENDED_SECONDS).phase
    wait_until(lambda: stage.house.leases.current(MODEL) is None, GONE_SECONDS, 0.2, "the lease was given back")
    return phase


def sample(stage: Stage) -> dict[str, float]:
    """Return what there is of everything that must not grow."""
    home, processes, passing = stage.house.home, marked(stage.house.stack.stack_id), flow_runs(stage)
    staying = [process for process in processes if process.pid not in passing]
    programs = list(placements(home.programs))
    return {
        "processes": len(staying),
        "open files": sum(_of(process, lambda found: found.num_fds()) for process in staying),
        "leases that are held": float(stage.house.leases.current(MODEL) is not None),
        "revisions that run": len(programs),
        "scratch folders": len(list(home.work.glob("*"))),
        "folders of unpacked revisions": sum(folder.is_dir() for region in REGIONS for folder in home.revisions(region).glob("*")),
        "memory (MiB)": round(sum(_of(process, lambda found: found.memory_full_info().pss) for process in processes) / 2**20),
        "ledger (KiB)": round(sum(file.stat().st_size for file in home.root.glob("ledger.db*")) / 2**10),
        "Prefect's database (MiB)": round((home.prefect / "prefect.db").stat().st_size / 2**20, 1),
        "logs (MiB)": round(_size(home.logs) / 2**20, 1),
    }


def held(bound: Bound, samples: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return how one thing grew from the first round to the last, and whether it may."""
    first, last = samples[0][bound.what], samples[-1][bound.what]
    most = "(told)" if bound.may_grow is None else f"{first + bound.may_grow:g}"
    right = bound.may_grow is None or last <= first + bound.may_grow
    return {"what": bound.what, "first": first, "last": last, "bound": most, "right": right, "all": [each[bound.what] for each in samples]}


def flow_runs(stage: Stage) -> set[int]:
    """Return the processes that the runner started: each comes and goes, and what must not grow is what stays."""
    runner = Supervisor.of(stage.house.home).process("runner")
    with suppress(psutil.Error):
        if runner is not None and runner.pid is not None:
            return {child.pid for child in psutil.Process(runner.pid).children(recursive=True)}
    return set()


def _of(process: psutil.Process, figure: Callable[[psutil.Process], float]) -> float:
    """Return a figure of a process, 0 for one that has ended meanwhile."""
    with suppress(psutil.Error):
        return figure(process)
    return 0.0


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
