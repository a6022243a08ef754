"""What the tests of the registry share: a ledger in a temporary folder and a clock that a test moves."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.settings import inherited_environment
from registry.ledger import Ledger

ROOT = Path(__file__).parents[2]


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    at: datetime = field(default_factory=lambda: datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every test of a ledger is made on each database that it may be kept in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"
    return str(request.getfixturevalue("postgresql").url())


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url, now=clock)
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python of ours that runs a script with arguments, from the repository's root."""

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=inherited_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], float], None]:
    def wait(condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            time.sleep(0.01)

    return wait
