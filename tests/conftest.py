"""One real stack for the whole run; it is started when the first test asks for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from fleet.settings import silence_telemetry

if TYPE_CHECKING:
    from support.postgresql import PostgresqlServer
    from support.stack import TestStack

MODELS = ("steady", "resetting", "dead", "flipped", "again", "killed", "refused", "newer", "operated", "unlucky", "touched", "rotting")
SMALL = ("dead", "again", "newer", "operated", "touched")
"""Of these, the models that stand in one region only."""


silence_telemetry()

# Files that share one stack, or start their own: one worker runs a group one file after another, on a stack of its own.
ON_THE_STACK = {
    "first stack": (
        "test_control_bad_days.py",
        "test_control_costs.py",
        "test_control_doors.py",
        "test_control_drift.py",
        "test_control_operator.py",
        "test_control_stack.py",
        "test_flows_harm_budget.py",
        "test_flows_operated.py",
    ),
    "second stack": (
        "test_flows_failover_drill.py",
        "test_flows_gated.py",
        "test_flows_killed_anywhere.py",
        "test_flows_plan_stack.py",
        "test_flows_release_train.py",
        "test_flows_rollback_alone.py",
        "test_flows_rot_stack.py",
        "test_flows_shadow_and_bake.py",
        "test_flows_waves.py",
    ),
}


class StackAside(LoadFileScheduling):
    """Gives whole files to workers, each group on a stack to one of them, and these first: they take longest."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((group for group, files in ON_THE_STACK.items() if file.endswith(files)), file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        for group in ON_THE_STACK:
            if group in self.workqueue:
                self.workqueue.move_to_end(group, last=False)
                break
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> StackAside:
    """Tell xdist how to share the tests out."""
    return StackAside(config, log)


STANDING: list[Callable[[], None]] = []
"""What ends the stack that stands, once."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End a worker's stack after its last file: it would reconcile every minute beside all other tests."""
    on_the_stack = any(item.path.name in files for files in ON_THE_STACK.values())
    if STANDING and hasattr(item.config, "workerinput") and not on_the_stack:
        STANDING.pop()()


@pytest.fixture(scope="session")
def stack() -> Iterator[TestStack]:
    """The embedded stack with three regions and one toy model per test, in a short path (a socket lies in it)."""
    from control.stack.down import down
    from control.stack.up import up
    from fleet.home import Home
    from fleet.settings import Settings
    from flows.house import House
    from support.stack import TestStack, toy_fleet, with_drilled, with_gated, with_small, with_traffic, write_fleet

    root = Path(tempfile.mkdtemp(prefix="cv-"))
    settings = Settings(home=root, tick_seconds=0.5, lease_seconds=5, table_seconds=6, keep_raw_logs=True)
    home = Home.of(settings)
    write_fleet(home, with_gated(with_traffic(with_drilled(with_small(toy_fleet(MODELS), SMALL)))))

    def end() -> None:
        down(settings)
        shutil.rmtree(root)

    STANDING.append(end)
    try:
        up(settings, lambda text: None)
        yield TestStack(settings, House(settings, home))
    finally:
        while STANDING:
            STANDING.pop()()


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[str]:
    """The endpoint of a real store that speaks S3's interface; what needs it is skipped where it is not installed."""
    from support.object_stores import NO_SEAWEEDFS, running_seaweedfs

    with running_seaweedfs() as endpoint:
        if endpoint is None:
            pytest.skip(NO_SEAWEEDFS)
        yield endpoint


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The endpoint of Azure's own emulator of its store; what needs it is skipped where it is not installed."""
    from support.object_stores import NO_AZURITE, running_azurite

    with running_azurite() as endpoint:
        if endpoint is None:
            pytest.skip(NO_AZURITE)
        yield endpoint


@pytest.fixture(scope="module")
def alone(stack: TestStack) -> Iterator[None]:
    """Nobody but the module's tests tells releases."""
    with stack.alone():
        yield


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A real PostgreSQL server in a folder of its own; what needs it is skipped where it is not installed."""
    from support.postgresql import MISSING, running_postgresql

    with running_postgresql() as server:
        if server is None:
            pytest.skip(MISSING)
        yield server
