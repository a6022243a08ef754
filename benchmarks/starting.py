"""How long `convoy --help` and `convoy up` take."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from benchmarks.form import Row, interleaved, measured, skipped
from benchmarks.stack import home
from control.stack.components import Site, components
from control.stack.down import down
from control.stack.records import ensure_credentials
from control.stack.up import up
from fleet.home import Home
from fleet.settings import NO_TELEMETRY, Settings, inherited_environment
from fleet.stack import Stack

BIN = Path(sys.executable).parent
HELP = 0.5
FIRST_UP, LATER_UP = 60.0, 30.0
ALONE_PORT = 31900


def help_rows(rounds: int) -> list[Row]:
    """Return the time to the end of `--help`, beside the interpreter alone and two peers' commands."""
    subjects = {
        "convoy --help": lambda: _timed((str(BIN / "convoy"), "--help")),
        "floor: python -c pass": lambda: _timed((sys.executable, "-c", "pass")),
        "peer: mlflow --help": lambda: _timed((str(BIN / "mlflow"), "--help")),
        "peer: prefect --help": lambda: _timed((str(BIN / "prefect"), "--help")),
    }
    found = interleaved(subjects, rounds)
    return [measured("help is printed", name, values, "s", HELP if name.startswith("convoy") else None) for name, values in found.items()]


def up_rows(rounds: int) -> list[Row]:
    """Return `convoy up` to all healthy in fresh homes and again in the same ones, beside Prefect's server alone."""
    found = interleaved({"first": _first_and_later, "prefect": _prefect_alone}, rounds)
    later = LATER[-rounds:]
    return [
        measured("convoy up to all healthy, first", "a fresh home", found["first"], "s", FIRST_UP),
        measured("convoy up to all healthy, later", "the same home after convoy down", later, "s", LATER_UP),
        measured("limit: its slowest part alone", "Prefect's server on a fresh database", found["prefect"], "s"),
    ]


LATER: list[float] = []


def _first_and_later() -> float:
    with home() as settings:
        first = timed_up(settings)
        down(settings)
        LATER.append(timed_up(settings))
        return first


def quick_rows(settings: Settings) -> Iterator[Row]:
    """Return one fresh start; starting again would take the quick run past its time."""
    yield measured("convoy up to all healthy, first", "a fresh home", [timed_up(settings)], "s", FIRST_UP)
    yield skipped("convoy up to all healthy, later", "the same home after convoy down", "s", "only in the full run", LATER_UP)
    yield skipped("limit: its slowest part alone", "Prefect's server on a fresh database", "s", "only in the full run")


def timed_up(settings: Settings) -> float:
    """Start a stack as the command does and return the seconds until all of it is healthy."""
    began = time.monotonic()
    up(settings, lambda text: None)
    return time.monotonic() - began


def _timed(command: Sequence[str]) -> float:
    began = time.monotonic()
    subprocess.run(command, env={**inherited_environment(), **NO_TELEMETRY}, capture_output=True, check=True)
    return time.monotonic() - began


def _prefect_alone() -> float:
    """Start Prefect's server, as the stack configures it, with nothing beside it."""
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        place = Home(Path(folder))
        site = Site(place, Settings(home=place.root), Stack("benchmark", ALONE_PORT), ensure_credentials(place))
        server = next(each for each in components(site) if each.name == "prefect")
        server.directory.mkdir()
        began = time.monotonic()
        process = subprocess.Popen(server.command, env=dict(server.environment), cwd=server.directory, stdout=-3, stderr=-3)
        try:
            while not _answers(server.health):
                time.sleep(0.05)
            return time.monotonic() - began
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False
