"""A drill on the real stack: a region's server is killed under load, and comes back whatever happens to the drill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from clouds.local.counters import read_counters
from clouds.serving import State
from fleet.errors import Busy, Refused
from flows.drill_checks import DrillPlan, Look, refusals_of, survivors_of
from flows.drill_journal import open_drill
from flows.drilling import drill, longest_ago
from flows.work import stable_of
from support.waiting import wait_until

if TYPE_CHECKING:
    from clouds.serving import RevisionStatus
    from support.stack import TestStack

MODEL, REGION, SURVIVOR = "drilled", "sa-east-1", "us-east-1"
QUICK = ("--rate", "40", "--window", "2", "--json")


def stacked(test: Callable[..., None]) -> Callable[..., None]:
    """Mark what needs the running stack."""
    return pytest.mark.stack(pytest.mark.timeout(400)(test))


def look(states: dict[str, State], **routed: frozenset[str]) -> Look:
    return Look(MODEL, states, routed)


READY = dict.fromkeys(("a", "b", "c"), State.READY)
EVERYWHERE = frozenset(READY)


def test_a_region_with_another_one_that_is_ready_and_routed_at_every_edge_may_be_lost() -> None:
    assert refusals_of(look(READY, one=EVERYWHERE, two=EVERYWHERE), "a") == ()
    assert survivors_of(look(READY, one=EVERYWHERE, two=frozenset("ab")), "a") == ("b",)


@pytest.mark.parametrize(
    ("states", "routed", "says"),
    [
        ({"a": State.READY}, {"one": frozenset("a")}, "last healthy region"),
        ({**READY, "b": State.FAILED, "c": State.STARTING}, {"one": EVERYWHERE}, "last healthy region"),
        (READY, {"one": EVERYWHERE, "two": frozenset("a")}, "last healthy region"),
        (READY, {"one": frozenset("ab"), "two": frozenset("ac")}, "last healthy region"),
        (READY, {}, "last healthy region"),
        ({**READY, "a": State.FAILED}, {"one": EVERYWHERE}, "an incident, not a drill"),
        (READY, {"one": frozenset("bc")}, "gets no requests there from edge one"),
    ],
)
def test_a_region_without_a_proven_way_out_must_not_be_lost(states: dict[str, State], routed: dict[str, frozenset[str]], says: str) -> None:
    assert says in "; ".join(refusals_of(look(states, **routed), "a"))


@pytest.mark.parametrize(("mark", "refused"), [({"a", "b"}, False), ({"a"}, True), ({"b"}, False)])
def test_the_last_region_of_a_residency_must_not_be_lost(mark: set[str], refused: bool) -> None:
    marked = replace(look(READY, one=EVERYWHERE), marks={"eu": frozenset(mark)})
    assert bool(refusals_of(marked, "a")) is refused
    assert not refused or "for residency 'eu'" in refusals_of(marked, "a")[0]


@pytest.fixture(scope="module")
def served(stack: TestStack) -> TestStack:
    """The stack with a model in two regions, one of which serves nothing else."""
    if stable_of(stack.house, MODEL) is None:
        done = stack.release(MODEL, stack.register(MODEL))
        assert done.returncode == 0, done.stderr
    return stack


def status(stack: TestStack) -> RevisionStatus:
    stable = stable_of(stack.house, MODEL)
    assert stable is not None
    return stack.house.target(REGION).status_of(REGION, MODEL, stable.digest)


def ready(stack: TestStack) -> bool:
    return status(stack).state is State.READY


def quiet(stack: TestStack) -> bool:
    return stack.house.leases.current(MODEL) is None


def drills_answered(stack: TestStack) -> int:
    """Return how many requests the survivor's process answered as traffic of a drill."""
    (file,) = stack.house.home.usage(SURVIVOR).glob(f"*-{MODEL}-*.counters")
    counters = read_counters(file)
    assert counters is not None
    return counters.figures["drill"].requests


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def kinds(stack: TestStack) -> list[str]:
    return [event.type for event in stack.house.ledger.stream(f"drill/{REGION}")]


@pytest.mark.long
@stacked
def test_a_drill_that_is_not_allowed_is_refused_and_changes_nothing(served: TestStack) -> None:
    wait_until(lambda: quiet(served), 30, what="the release has given its lease back")
    before = served.snapshot(MODEL)
    unknown = served.convoy("drill", "atlantis")
    assert (unknown.returncode, "Known: us-east-1" in unknown.stderr) == (2, True), unknown.stderr
    lease = served.house.leases.take(MODEL, "a release", 120)
    assert lease is not None
    busy = served.convoy("drill", REGION)
    with pytest.raises(Busy, match="drilled is held by a release"):
        drill(served.house, DrillPlan(REGION), "test", print)
    served.house.leases.give_back(lease)
    assert (busy.returncode, "drilled is held by a release" in busy.stderr) == (2, True), busy.stderr
    allowed = served.convoy("drill", REGION, "--dry-run", "--json")
    document = json.loads(allowed.stdout)
    assert (allowed.returncode, document["refusals"], document["models"][MODEL]["survivors"]) == (0, [], [SURVIVOR])
    assert served.snapshot(MODEL) == before


@pytest.mark.long
@stacked
def test_a_region_is_lost_under_load_and_nobody_notices_and_it_comes_back(served: TestStack) -> None:
    before, table = status(served), served.snapshot(MODEL)["table"]
    done = served.convoy("drill", REGION, *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    (found,) = report["models"]
    assert (report["outcome"], found["model"], found["releases_behind"]) == ("passed", MODEL, 0)
    assert found["sent"] > 40 * 2
    assert found["failed"] <= found["sent"] * 0.01, "what the SLO lets fail"
    assert 0 <= found["served_again"] < 60
    assert found["said"] < 60
    assert found["back"] > 0
    assert found["routed"] > 0
    # A dead process loses what it had in hand: the edge tried it elsewhere
    assert found["bad_attempts"] > 0
    assert status(served) == before
    assert served.snapshot(MODEL)["table"] == table
    assert kinds(served)[-5:] == ["drill.started", "drill.broken", "drill.measured", "drill.mended", "drill.ended"]
    assert quiet(served)
    assert longest_ago(served.house, print) != REGION
    assert drills_answered(served) > 0
    counts = served.house.edges[0].attempts(MODEL, int(time.time()) - 120, int(time.time()) + 1).counts
    assert REGION in {count.region for count in counts if count.attempts > count.bad}


@pytest.mark.long
@stacked
def test_a_drill_that_is_killed_leaves_a_region_that_reconcile_puts_back_and_the_last_one_is_never_lost(served: TestStack) -> None:
    command = [str(Path(sys.executable).with_name("convoy")), "drill", REGION, *QUICK]
    killed = subprocess.Popen(command, env=served.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: not ready(served), 90, 0.02, "the region is lost")
    callers = psutil.Process(killed.pid).children()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert callers
    assert open_drill(served.house.ledger, REGION) is not None
    before = served.snapshot(MODEL)
    with pytest.raises(Refused, match="it is the last healthy region of drilled"):
        drill(served.house, DrillPlan(SURVIVOR), "test", print)
    assert served.snapshot(MODEL) == before
    assert not ready(served)
    wait_until(lambda: not any(map(alive, callers)), 30, what="no load outlives it")
    wait_until(lambda: quiet(served), 30, what="the dead drill's leases have run out")
    done = served.flow("reconcile()")
    assert done.returncode == 0, done.stderr
    assert ready(served)
    assert open_drill(served.house.ledger, REGION) is None
    ended = served.house.ledger.last(f"drill/{REGION}", "drill.ended")
    assert ended is not None
    assert ended.payload["outcome"] == "aborted"
    assert "its process ended before it did" in str(ended.payload["reasons"])
