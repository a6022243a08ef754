"""What one region's servers used, hour by hour: readings as the meter took them, folded into whole numbers per traffic.

A reading is absolute: what a process has used since it began, and what its program has answered since its counters began.
So nothing is lost when a reading is: the next one covers it. What a process uses after its last reading is not known, so a
process that ends between two readings is charged up to one reading too little CPU time and memory. What lies between two
readings belongs to the later one, and its CPU time and memory are split over the kinds of traffic by the requests answered
meanwhile. Where none was, it is `idle`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from clouds.local.counters import TRAFFIC, Figures

IDLE = "idle"
"""The traffic type of what a server used while it answered nobody."""
START_SLACK_MS = 2000
"""How far two looks at a process's start may differ: the clock from which it is computed is corrected now and then."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one program.

    `at_ms` is Unix time, `steady_ms` a clock that is never set. `pid` is 0 where no process runs; `started_ms` counts
    from the machine's start. `cpu_us` and `memory_bytes` (resident) are those of the process and its descendants; `born`
    names the counters that `figures` come from. A `base` is a copy of the last reading of an earlier hour: where this
    hour's count begins.
    """

    program: str
    model: str
    revision: str
    at_ms: int
    steady_ms: int
    pid: int
    started_ms: int
    cpu_us: int
    memory_bytes: int
    born: int
    figures: Mapping[str, Figures]
    base: bool = False


class Used(NamedTuple):
    """What went to one kind of traffic; memory in byte-milliseconds."""

    requests: int = 0
    failed: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    cpu_us: int = 0
    memory_byte_ms: int = 0

    def plus(self, other: Used) -> Used:
        """Return the sum."""
        return Used(*(one + another for one, another in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class ProgramUsage:
    """What one program used within an hour, from `from_ms` to `to_ms` (Unix time), by kind of traffic."""

    program: str
    model: str
    revision: str
    from_ms: int
    to_ms: int
    traffic: Mapping[str, Used]


def fold(readings: Iterable[Reading]) -> tuple[ProgramUsage, ...]:
    """Return what each program used, from its readings in the order in which they were taken."""
    by_program: dict[str, list[Reading]] = defaultdict(list)
    for reading in readings:
        by_program[reading.program].append(reading)
    found = (_program(taken) for _, taken in sorted(by_program.items()))
    return tuple(usage for usage in found if usage is not None)


def split(whole: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split a whole number by weights so that the parts sum to it; without any weight all of it is idle.

    By the largest remainder (Hamilton's method); equal remainders go by name.
    """
    total = sum(weights.values())
    if total == 0:
        return {IDLE: whole}
    parts = {name: whole * weight // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: (-(whole * weights[name] % total), name))
    for name in by_remainder[: whole - sum(parts.values())]:
        parts[name] += 1
    return parts


def _program(readings: list[Reading]) -> ProgramUsage | None:
    """Fold one program; None where an hour has nothing but its base."""
    before: Reading | None = None
    traffic: dict[str, Used] = {}
    taken = [reading for reading in readings if not reading.base]
    for reading in readings:
        if not reading.base:
            for name, used in _between(before, reading).items():
                traffic[name] = traffic.get(name, Used()).plus(used)
        before = reading
    if not taken:
        return None
    last = taken[-1]
    return ProgramUsage(last.program, last.model, last.revision, readings[0].at_ms, last.at_ms, traffic)


def _between(before: Reading | None, now: Reading) -> dict[str, Used]:
    """Return what was used between two readings of a program."""
    earlier = before.figures if before and before.born == now.born else {}
    answered = {name: now.figures.get(name, Figures()).since(earlier.get(name, Figures())) for name in TRAFFIC}
    weights = {name: figures.requests for name, figures in answered.items() if figures.requests}
    cpu, memory = split(_cpu_us(before, now), weights), split(_memory_byte_ms(before, now), weights)
    found = {name: Used(*answered.get(name, Figures()), cpu.get(name, 0), memory.get(name, 0)) for name in (*TRAFFIC, IDLE)}
    return {name: used for name, used in found.items() if any(used)}


def _cpu_us(before: Reading | None, now: Reading) -> int:
    """Return the CPU time since a reading; a process that began since then counts from its own start."""
    if before is not None and _same_process(before, now):
        return max(0, now.cpu_us - before.cpu_us)
    return now.cpu_us


def _memory_byte_ms(before: Reading | None, now: Reading) -> int:
    """Integrate the memory since a reading by the trapezoidal rule; a process that began since then counts from its start."""
    if now.pid == 0:
        return 0
    if before is not None and _same_process(before, now):
        return (before.memory_bytes + now.memory_bytes) * max(0, now.steady_ms - before.steady_ms) // 2
    lived = max(0, now.steady_ms - now.started_ms)
    most = lived if before is None or now.steady_ms < before.steady_ms else now.steady_ms - before.steady_ms
    return now.memory_bytes * min(lived, most)


def _same_process(before: Reading, now: Reading) -> bool:
    return now.pid != 0 and now.pid == before.pid and abs(now.started_ms - before.started_ms) <= START_SLACK_MS
