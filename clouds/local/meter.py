"""The meter: `python -m clouds.local.meter`, which samples what every local region's servers use.

Every few seconds it reads each program's counters and its process's CPU time and memory and appends them to the region's
samples. It keeps nothing in memory that a restart would lose. Its imports are few: it runs for ever beside everything else.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import socketserver
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from clouds.local.counters import SUFFIX, Counters, read_counters
from clouds.local.samples import Samples
from clouds.local.usage import Reading
from fleet.about import VERSION

EVERY_SECONDS = 5.0
LATE_TURNS = 6
USAGE_VARIABLE = "CONVOY_SERVICE_USAGE"
HOST = "127.0.0.1"
log = logging.getLogger(__name__)


class Meter:
    """Samples every region below a folder (`<regions>/<region>/usage`); its health is that of its last turns."""

    def __init__(self, regions: Path, every: float = EVERY_SECONDS) -> None:
        self._regions = regions
        self._every = every
        self._processes = Processes()
        self._problems: dict[str, str] = {}
        self._turned = time.monotonic()

    def turn(self) -> None:
        """Sample every region once; one that cannot be written is told of and keeps no other."""
        self._processes.look()
        problems = {}
        for folder in sorted(self._regions.glob("*/usage")):
            region = folder.parent.name
            try:
                self._sample(folder)
            except (OSError, psutil.Error) as problem:
                problems[region] = f"{type(problem).__name__}: {problem}"
                if self._problems.get(region) != problems[region]:
                    log.warning("region %s is not metered: %s", region, problems[region])
        self._problems = problems
        self._turned = time.monotonic()

    def trouble(self) -> str:
        """Return what keeps the meter from its work, empty when nothing does."""
        late = time.monotonic() - self._turned
        if late > LATE_TURNS * self._every:
            return f"the last look was {late:.0f} s ago"
        return "; ".join(f"{region}: {problem}" for region, problem in self._problems.items())

    def run(self) -> None:
        """Turn for ever."""
        while True:
            self.turn()
            threading.Event().wait(self._every)

    def _sample(self, folder: Path) -> None:
        at, steady = time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000
        found = ((file, read_counters(file)) for file in sorted(folder.glob(f"*{SUFFIX}")))
        readings = [self._reading(file, counters, at, steady) for file, counters in found if counters is not None]
        if not readings:
            return
        if Samples(folder).append(readings, at):
            for reading in readings:
                _tidy(folder / f"{reading.program}{SUFFIX}", reading)

    def _reading(self, file: Path, counters: Counters, at: int, steady: int) -> Reading:
        program = file.name.removesuffix(SUFFIX)
        pid, started, cpu, memory = self._processes.of(counters.pid, file)
        return Reading(program, counters.model, counters.revision, at, steady, pid, started, cpu, memory, counters.born, counters.figures)


class Processes:
    """The processes of this machine: who descends from whom, looked at once a turn, and what a whole family uses."""

    def __init__(self) -> None:
        self._children: dict[int, list[psutil.Process]] = {}
        self._known: dict[tuple[int, Path], psutil.Process] = {}

    def look(self) -> None:
        """Look at all processes anew."""
        children = defaultdict(list)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                children[process.ppid()].append(process)
        self._children = children
        self._known = {key: process for key, process in self._known.items() if process.is_running()}

    def of(self, pid: int, file: Path) -> tuple[int, int, int, int]:
        """Return pid, start (ms since the machine's), CPU time (µs) and memory (bytes) of the process that counts into a file.

        All are 0 where that process is gone, even if another one has its number now.
        """
        try:
            process = self._process(pid, file)
            if process is None:
                return 0, 0, 0, 0
            started = int(1000 * (process.create_time() - psutil.boot_time()))
            cpu, memory = 0, 0
            for member in self._family(process):
                with suppress(psutil.NoSuchProcess):
                    cpu += sum(round(1_000_000 * seconds) for seconds in member.cpu_times()[:4])
                    memory += member.memory_info().rss
        except psutil.Error:
            return 0, 0, 0, 0
        return pid, started, cpu, memory

    def _process(self, pid: int, file: Path) -> psutil.Process | None:
        """Return the process if it is the one that was told to count into the file."""
        found = self._known.get((pid, file))
        if found is None:
            found = psutil.Process(pid)
            if found.environ().get(USAGE_VARIABLE) != str(file):
                return None
            self._known[pid, file] = found
        return found

    def _family(self, process: psutil.Process) -> Iterator[psutil.Process]:
        yield process
        for child in self._children.get(process.pid, ()):
            yield from self._family(child)


def _tidy(file: Path, reading: Reading) -> None:
    """Delete the counters of a program that has no process, once an hour; it has been read, and new ones are told apart."""
    if reading.pid:
        return
    with suppress(FileNotFoundError, BlockingIOError), file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        counters = read_counters(file)
        if counters is not None and counters.figures == reading.figures:
            file.unlink()


class Health(socketserver.ThreadingTCPServer):
    """Answers every request on a loopback port with the meter's health; the standard library's HTTP server costs 7 MiB."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, meter: Meter) -> None:
        self.meter = meter
        super().__init__((HOST, port), HealthAnswer)


class HealthAnswer(socketserver.StreamRequestHandler):
    """One answer: 200, or 503 with the reason."""

    timeout = 2.0

    def handle(self) -> None:
        """Read the request's head, whatever it asks, and answer."""
        with suppress(OSError):
            while self.rfile.readline(8192).strip():
                pass
            trouble = self.server.meter.trouble()  # type: ignore[attr-defined]
            body = json.dumps({"healthy": not trouble, "reason": trouble, "version": VERSION}).encode()
            status = "503 Service Unavailable" if trouble else "200 OK"
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.wfile.write(head.encode() + body)


def main(arguments: Sequence[str] | None = None) -> None:
    """Meter for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m clouds.local.meter", description="Samples what the local regions use.")
    parser.add_argument("--regions", required=True, type=Path, help="the folder with one folder per region")
    parser.add_argument("--port", required=True, type=int, help="where the meter tells its health on loopback")
    parser.add_argument("--every", type=float, default=EVERY_SECONDS, help="seconds between two looks")
    given = parser.parse_args(arguments)
    meter = Meter(given.regions.absolute(), given.every)
    health = Health(given.port, meter)
    threading.Thread(target=health.serve_forever, name="health", daemon=True).start()
    meter.run()


if __name__ == "__main__":
    main()
