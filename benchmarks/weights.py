"""How soon a weight that is written is the weight that callers get, and what fails meanwhile."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.envoy_alone import renamed_to_answered
from benchmarks.form import Row, measured, skipped
from benchmarks.stack import MODEL
from flows.routing import backends
from flows.shipping import start_and_wait
from flows.work import Claim, claim, once_stable, stable_of
from traffic.edges import shift
from traffic.table import RoutingTable, Share

if TYPE_CHECKING:
    from fleet.versions import Revision
    from support.stack import TestStack

EFFECTIVE = 100.0
RATE = 100.0
BETWEEN_SECONDS = 0.7


CHANGES = (
    ("weight change effective", "raised: checked, warmed, switched", "ms", EFFECTIVE),
    ("weight change effective", "lowered: back to stable", "ms", EFFECTIVE),
    ("weight change confirmed by Envoy", "raised", "ms", None),
    ("weight change confirmed by Envoy", "lowered", "ms", None),
    ("failed requests while weights change", f"at {RATE:g} a second", "", 0.0),
)
FLOOR = ("floor: routes renamed to answered", "Envoy alone", "ms")


def quick_rows() -> list[Row]:
    """Return the floor; two revisions of one model take longer than a quick run may."""
    found = [skipped(row, subject, unit, "only in the full run", target) for row, subject, unit, target in CHANGES]
    return [*found, measured(*FLOOR[:2], _floor(5), FLOOR[2])]


def rows(stack: TestStack, changes: int) -> list[Row]:
    """Switch all requests between two revisions and back under load; effective is when no later request gets the old one.

    Seen from the callers' own log: a request's moment is when it was due, so the figure's grain is one request (10 ms).
    """
    house = stack.house
    stable = stable_of(house, MODEL)
    assert stable is not None
    other = next(found for found in reversed(once_stable(house, MODEL)) if found.digest != stable.digest)
    for region in house.model(MODEL).regions:
        start_and_wait(house, other, region)
    with claim(house, MODEL, "benchmark") as held, stack.load(MODEL, RATE) as load:
        assert held is not None
        done = list(_changes(stack, held, (stable, other), changes))
    answers = load.answers()
    raised, lowered = done[0::2], done[1::2]
    figures = (
        _effective(raised, answers),
        _effective(lowered, answers),
        [(end - begin) * 1000 for begin, end, _ in raised],
        [(end - begin) * 1000 for begin, end, _ in lowered],
        [len(load.failed())],
    )
    found = [measured(row, subject, values, unit, target) for (row, subject, unit, target), values in zip(CHANGES, figures, strict=True)]
    return [*found, measured(*FLOOR[:2], _floor(changes), FLOOR[2])]


def _floor(changes: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="cb-") as folder:
        return [taken * 1000 for taken in renamed_to_answered(Path(folder), changes)]


def _changes(stack: TestStack, held: Claim, pair: tuple[Revision, Revision], changes: int) -> Iterator[tuple[float, float, str]]:
    """Give each change's begin and end in Unix seconds, and the revision that has all requests afterwards."""
    stable, other = pair
    for wanted in itertools.islice(itertools.cycle((other, stable)), 2 * changes):
        time.sleep(BETWEEN_SECONDS)
        table = _table(stack, held, stable, wanted)
        begin = time.time()
        shifted = shift(stack.house.edges, table)
        assert shifted.complete, shifted
        yield begin, time.time(), wanted.digest
    time.sleep(BETWEEN_SECONDS)


def _table(stack: TestStack, held: Claim, stable: Revision, wanted: Revision) -> RoutingTable:
    """Return the table that gives everything to one revision, with stable as its safety."""
    revisions = (stable,) if wanted == stable else (stable, wanted)
    declared = stack.house.model(MODEL)
    return RoutingTable(
        model=MODEL,
        epoch=held.lease.epoch,
        version=next(held.versions),
        expires_at=time.time() + 60,
        shares=(Share(wanted.digest, 100),),
        safe=(Share(stable.digest, 100),),
        backends=tuple(each for found in revisions for each in backends(stack.house, found, declared.regions, required=True)),
        latency_ms=min(slo.latency_ms for slo in declared.slo.values()),
    )


def _effective(changes: Sequence[tuple[float, float, str]], answers: Sequence[dict[str, Any]]) -> list[float]:
    """Return, for each change, the milliseconds from its begin to the last request that still got the old revision."""
    found = []
    for begin, end, digest in changes:
        old = [sent["sent"] for sent in answers if begin <= sent["sent"] < end + BETWEEN_SECONDS / 2 and sent["revision"] != digest]
        found.append((max(old, default=begin) - begin) * 1000)
    return found
