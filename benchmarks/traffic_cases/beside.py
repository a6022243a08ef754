"""Convoy's edge beside a bare Envoy at equal load: latency from when a request should have gone out, and processor time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from edge_harness import CANARY, REGIONS, STABLE, wait_until

from benchmarks.form import Row, interleaved, measured
from benchmarks.traffic_cases.bare import BareEnvoy
from benchmarks.traffic_cases.blame import whose, within
from benchmarks.traffic_cases.callers import callers
from benchmarks.traffic_cases.scene import CANARY_PERCENT, HOLDS_SECONDS, MODEL, healthy, url_of
from traffic.edges import shift
from traffic.envoy import LOOPBACK
from traffic.load import Sent

if TYPE_CHECKING:
    from edge_harness import RealEdge

CONVOY, BARE, LOGGED, FLOOR = "Convoy's edge", "bare Envoy", "bare Envoy with an access log", "floor: one server, no proxy"
AGAINST = "Convoy's edge against a bare Envoy"
AT_MOST = 1.05
QUANTILES = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds are counted, how long each is, and after how many seconds of load its counting begins."""

    rounds: int
    seconds: float
    settle: float


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that answers: where, with which processes, and what precedes and follows its turns."""

    url: str
    processes: Mapping[str, int] = field(default_factory=dict)
    begin: Callable[[], None] = lambda: None
    end: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Round:
    """What one turn came to: milliseconds from when each request was due and from when it left, and microseconds per request."""

    from_due: tuple[float, ...]
    from_sent: tuple[float, ...]
    processor: Mapping[str, float]
    failed: int


def rows(edge: RealEdge, folder: Path, plan: Plan) -> list[Row]:
    """Send the same load through each in turn; whoever is not in turn is stopped or has nothing to do."""
    assert shift([edge.client], edge.table(2, canary=CANARY_PERCENT, seconds=HOLDS_SECONDS)).complete
    with ExitStack() as running:
        peers = {name: BareEnvoy(folder / f"bare-{log}", _shares(edge), log) for name, log in ((BARE, False), (LOGGED, True))}
        for peer in peers.values():
            running.callback(peer.process.kill)
            peer.start()
        running.callback(_wake, edge)
        _still(edge)
        logs = (folder / f"round-{number}.jsonl" for number in count())
        subjects = {FLOOR: _floor(edge), **{name: _bare(name, peer) for name, peer in peers.items()}, CONVOY: _convoy(edge)}
        found = interleaved({name: partial(_turn, subject, plan, logs) for name, subject in subjects.items()}, plan.rounds)
    return figures(found)


def figures(found: Mapping[str, Sequence[Round]]) -> list[Row]:
    """Return the rows: ratios within each round first, then what they are made of."""
    return [
        *_ratios(AGAINST, found, BARE, "from_due", AT_MOST),
        *_ratios(f"{AGAINST}, from when a request went out", found, BARE, "from_sent"),
        *_ratios(f"{AGAINST} with an access log", found, LOGGED, "from_due"),
        *(
            measured(f"latency from when a request was due, {name}", subject, _each(found, subject, "from_due", q), "ms")
            for name, q in QUANTILES.items()
            for subject in found
        ),
        *_processor(found),
        Row("requests that failed in these rounds", CONVOY, sum(each.failed for each in found[CONVOY]), "requests", None, 1, 0.0),
    ]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that so large a part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


def _ratios(row: str, found: Mapping[str, Sequence[Round]], peer: str, what: str, target: float | None = None) -> Iterator[Row]:
    for name, q in QUANTILES.items():
        ours, theirs = _each(found, CONVOY, what, q), _each(found, peer, what, q)
        yield measured(row, name, [one / other for one, other in zip(ours, theirs, strict=True)], "times", target)


def _each(found: Mapping[str, Sequence[Round]], subject: str, what: str, q: float) -> list[float]:
    return [quantile(getattr(each, what), q) for each in found[subject]]


def _processor(found: Mapping[str, Sequence[Round]]) -> Iterator[Row]:
    for rounds in found.values():
        for process in rounds[0].processor:
            yield measured("processor time per request", process, [each.processor[process] for each in rounds], "us")


def _turn(subject: Subject, plan: Plan, logs: Iterator[Path]) -> Round:
    subject.begin()
    with callers(subject.url, next(logs)) as load:
        time.sleep(plan.settle)
        since, before = time.time(), _processor_seconds(subject)
        time.sleep(plan.seconds)
        until, after = time.time(), _processor_seconds(subject)
    subject.end()
    sent = within(load.sent(), since, until)
    return Round(
        tuple(each.milliseconds for each in sent),
        tuple(_from_sent(each) for each in sent),
        {name: (after[name] - before[name]) * 1e6 / len(sent) for name in before},
        sum(whose(each) is not None for each in sent),
    )


def _from_sent(sent: Sent) -> float:
    return sent.milliseconds - (sent.sent - sent.due) * 1000


def _processor_seconds(subject: Subject) -> dict[str, float]:
    times = {name: psutil.Process(pid).cpu_times() for name, pid in subject.processes.items()}
    return {name: found.user + found.system for name, found in times.items()}


def _shares(edge: RealEdge) -> dict[str, tuple[int, list[int]]]:
    weights = {"stable": (STABLE, 100 - CANARY_PERCENT), "canary": (CANARY, CANARY_PERCENT)}
    return {name: (weight, [edge.places[revision, region] for region in REGIONS]) for name, (revision, weight) in weights.items()}


def _floor(edge: RealEdge) -> Subject:
    return Subject(f"http://{LOOPBACK}:{edge.places[STABLE, REGIONS[0]]}/v2/models/{MODEL}/infer")


def _bare(name: str, peer: BareEnvoy) -> Subject:
    return Subject(f"{peer.url}/v2/models/{MODEL}/infer", {name: peer.process.running.pid})


def _convoy(edge: RealEdge) -> Subject:
    pids = {"Convoy's Envoy": edge.envoy.running.pid, "Convoy's agent": edge.agent.running.pid}
    return Subject(url_of(edge), pids, partial(_wake, edge), partial(_still, edge))


def _still(edge: RealEdge) -> None:
    """Stop an edge that is not in turn: its agent looks and its Envoy checks health even without requests."""
    edge.agent.freeze()
    edge.envoy.freeze()


def _wake(edge: RealEdge) -> None:
    edge.envoy.thaw()
    edge.agent.thaw()
    wait_until(lambda: healthy(edge), 30, "health")
