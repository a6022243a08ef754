"""The load: h2load, of nghttp2. It is kept since 2013, is in Debian, and speaks HTTP/1.1 with a body on N connections.

Against wrk it has what both kinds of load need: `--rps` sends at a rate that does not follow the answers (each of many
clients keeps its own beat), and `--log-file` tells every request's status and microseconds, so that percentiles and 5xx
are counted here rather than read from a summary. It takes a few percent of what a server in Python takes.

Without it on PATH its Debian packages are fetched by apt-get and unpacked beside the peers; nothing is installed.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving_cases.places import PLACE, core

PACKAGES = ("nghttp2-client", "libev4", "libjemalloc2")
OPEN_CLIENTS = 256
"""Clients of an open load; each has one request under way at most, so a server that sheds nothing still gets only so many."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load came to: seconds, answers by status (0: none), milliseconds of those with 200, sorted."""

    seconds: float
    statuses: Counter[int]
    milliseconds: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses[200] / self.seconds

    @property
    def failed(self) -> int:
        """Answers with a 5xx, and requests without one."""
        return sum(count for status, count in self.statuses.items() if status >= 500 or status <= 0)

    def quantile(self, q: float) -> float:
        """Return the smallest number of milliseconds that so large a part does not exceed; infinite without an answer."""
        return self.milliseconds[max(0, math.ceil(q * len(self.milliseconds)) - 1)] if self.milliseconds else math.inf


@functools.cache
def command() -> tuple[tuple[str, ...], dict[str, str]]:
    """Return h2load and the environment that it needs; raises OSError where it cannot be had."""
    if found := shutil.which("h2load"):
        return (found,), dict(os.environ)
    folder = PLACE / "h2load"
    if not (folder / "usr/bin/h2load").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=folder, check=True, capture_output=True)
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package.name, "."], cwd=folder, check=True, capture_output=True)
    libraries = ":".join(str(path) for path in (folder / "usr/lib").glob("*-linux-gnu"))
    return (str(folder / "usr/bin/h2load"),), dict(os.environ) | {"LD_LIBRARY_PATH": libraries}


def closed(url: str, body: Path, connections: int, seconds: float) -> Load:
    """Keep a request under way on each of some connections."""
    return _run(url, body, seconds, ["-c", str(connections)])


def open_(url: str, body: Path, rate: float, seconds: float) -> Load:
    """Send so many requests a second, spread over many clients, whatever is answered."""
    clients = max(1, min(OPEN_CLIENTS, int(rate)))
    return _run(url, body, seconds, ["-c", str(clients), f"--rps={max(1, round(rate / clients))}"])


def _run(url: str, body: Path, seconds: float, options: Sequence[str]) -> Load:
    program, environment = command()
    log = body.with_name(f"{time.monotonic_ns()}.tsv")
    line = [*program, "--h1", "-t", "1", "-D", f"{seconds:g}s", "--warm-up-time=0", "-d", str(body), f"--log-file={log}"]
    line += [*options, "-H", "content-type: application/json", url]
    # h2load knows whole seconds and milliseconds
    line[line.index(f"{seconds:g}s")] = f"{round(seconds * 1000)}ms"
    subprocess.run(line, env=environment, check=True, capture_output=True, preexec_fn=core(-1), timeout=seconds + 60)
    found = _read(log, seconds)
    log.unlink()
    return found


def _read(log: Path, seconds: float) -> Load:
    statuses: Counter[int] = Counter()
    milliseconds: list[float] = []
    for line in log.read_text(encoding="ascii").splitlines():
        _, status, micros = line.split("\t")[:3]
        statuses[int(status)] += 1
        if status == "200":
            milliseconds.append(int(micros) / 1000)
    return Load(seconds, statuses, tuple(sorted(milliseconds)))
