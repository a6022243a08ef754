"""What a release, the stack and the command take."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import releases, starting, weights
from benchmarks.form import Row
from benchmarks.memory import at_rest
from benchmarks.stack import home, stack
from benchmarks.whole_demo import demo

ROUNDS = 5
CHANGES = 20


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run does less of each and leaves the demo out."""
    return list(_rows(quick))


def _rows(quick: bool) -> Iterator[Row]:
    yield from starting.help_rows(1 if quick else 7)
    if not quick:
        yield from starting.up_rows(ROUNDS)
    with home() as settings:
        if quick:
            yield from starting.quick_rows(settings)
        with stack(settings) as running:
            yield from releases.quick_rows(running) if quick else releases.rows(running, ROUNDS)
            yield from weights.quick_rows() if quick else weights.rows(running, CHANGES)
            yield from at_rest(running)
    yield from demo(quick)
