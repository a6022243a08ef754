"""A stack of its own for a measurement, made as the tests make theirs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.form import ROOT
from control.stack.down import down
from control.stack.up import up
from fleet.home import Home
from fleet.settings import Settings
from flows.house import House

sys.path.append(str(ROOT / "tests"))

if TYPE_CHECKING:
    from support.stack import TestStack

MODEL = "toy"


@contextmanager
def home() -> Iterator[Settings]:
    """Give the settings of a stack in a fresh short folder, and leave nothing of it behind."""
    from support.stack import toy_fleet, write_fleet

    root = Path(tempfile.mkdtemp(prefix="cb-"))
    settings = Settings(home=root, fleet=None, ledger_url=None, crash_at=None, keep_raw_logs=True)
    write_fleet(Home.of(settings), toy_fleet((MODEL,)))
    try:
        yield settings
    finally:
        down(settings)
        shutil.rmtree(root)


@contextmanager
def stack(settings: Settings) -> Iterator[TestStack]:
    """Give the running stack of a home."""
    from support.stack import TestStack

    up(settings, lambda text: None)
    yield TestStack(settings, House(settings, Home.of(settings)))
