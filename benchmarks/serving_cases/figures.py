"""What the rounds came to, as rows, with what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.form import Row, measured, skipped
from benchmarks.serving_cases.load import Load
from benchmarks.serving_cases.servers import ASYNC, COMPILED, CONVOY

AGAINST = "against the async FastAPI app"
THROUGHPUT: Mapping[tuple[str, str, int], float] = {
    ("logistic", CONVOY.name, 8): 3.0,
    ("logistic", CONVOY.name, 64): 8.0,
    ("forest", CONVOY.name, 64): 8.0,
    ("forest", COMPILED.name, 64): 100.0,
}
"""How many times the throughput of the peer was asked for, at least."""
P50_AT_ONE, P99_AT_64 = 1.0, 0.2
Found = Mapping[str, Sequence[Load]]


def turns(model: str, says: str, connections: int, found: Found, way: str) -> list[Row]:
    """Return what each server came to, and Convoy against its peer round by round."""
    where = f"{says}, {connections} connection{'s' if connections > 1 else ''}, {way}"
    rows = [
        row
        for name, loads in found.items()
        for row in (
            measured(f"answers a second: {where}", name, [load.rate for load in loads], "1/s"),
            measured(f"p50: {where}", name, [load.quantile(0.5) for load in loads], "ms"),
            measured(f"p99: {where}", name, [load.quantile(0.99) for load in loads], "ms"),
        )
    ]
    peer = found.get(ASYNC.name)
    ours = [name for name in (CONVOY.name, COMPILED.name) if name in found]
    return [*rows, *(row for name in ours if peer for row in _against(model, where, connections, (name, found[name], peer), way))]


def _against(model: str, where: str, connections: int, pair: tuple[str, Sequence[Load], Sequence[Load]], way: str) -> Iterator[Row]:
    name, ours, peer = pair
    both = list(zip(ours, peer, strict=True))
    direct = way == "direct"
    wanted = THROUGHPUT.get((model, name, connections)) if direct else None
    yield measured(
        f"throughput {AGAINST}: {where}", name, [_ratio(one.rate, other.rate) for one, other in both], "times", wanted, least=True
    )
    if connections == 1:
        p50 = [_ratio(one.quantile(0.5), other.quantile(0.5)) for one, other in both]
        yield measured(f"p50 {AGAINST}: {where}", name, p50, "times", P50_AT_ONE if direct else None)
    if connections == 64:
        p99 = [_ratio(one.quantile(0.99), other.quantile(0.99)) for one, other in both]
        yield measured(f"p99 {AGAINST}: {where}", name, p99, "times", P99_AT_64 if direct else None)
    if connections == 8:
        yield Row(f"5xx below saturation: {where}", name, sum(load.failed for load in ours), "answers", None, len(ours), 0.0)


def overload(says: str, name: str, peak: float, loads: Sequence[Load]) -> Row:
    """Return the goodput at twice saturation as a part of the peak."""
    return measured(
        f"goodput at twice saturation: {says}, direct", name, [_ratio(load.rate, peak) for load in loads], "of the peak", 0.9, least=True
    )


def left_out(says: str, name: str, why: str) -> Row:
    """Return the row of a server that could not be measured."""
    return skipped(f"answers a second: {says}", name, "1/s", why)


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("inf")
