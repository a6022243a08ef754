from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from clouds_support import STACK

from clouds.local.supervisor import Supervisor, launch
from fleet.home import Home


@pytest.fixture
def home() -> Iterator[Home]:
    # pytest's own folders may be too deep for a unix socket
    root = Path(tempfile.mkdtemp(prefix="convoy-"))
    yield Home(root / "home")
    shutil.rmtree(root)


@pytest.fixture
def supervisor(home: Home) -> Iterator[Supervisor]:
    running = launch(home, STACK)
    yield running
    running.shutdown()
