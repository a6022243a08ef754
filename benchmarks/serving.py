"""What serving takes: Convoy's server beside its peers, with the same model on the same core, direct and through an edge's Envoy."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.form import Row, interleaved, measured, skipped
from benchmarks.serving_cases import load
from benchmarks.serving_cases.figures import left_out, overload, turns
from benchmarks.serving_cases.models import MODELS, Served, demo, variant
from benchmarks.serving_cases.servers import ASYNC, COMPILED, CONVOY, KINDS, SYNC, Kind, NotRun, Server, running
from control.demo.register import quiet

COLD_SECONDS, MEMORY_MIB = 4.0, 250.0
ALL = 64
SETTLED, QUEUES, LONGEST = 1.0, 10, 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Which models and servers, on how many connections, for how many counted rounds of how many seconds."""

    models: tuple[str, ...]
    kinds: tuple[Kind, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: float


FULL = Plan(tuple(MODELS), KINDS, (1, 8, ALL), 5, 2.0)
QUICK = Plan(("logistic", "forest"), (CONVOY, COMPILED, ASYNC, SYNC), (1, 8, ALL), 1, 0.2)


def run(quick: bool) -> list[Row]:
    """Return every row; the quick run leaves out models and peers, and says so."""
    folder = Path(tempfile.mkdtemp(prefix="cb-"))
    try:
        load.command()
        with quiet():
            return list(_rows(folder, QUICK if quick else FULL, quick))
    finally:
        shutil.rmtree(folder)


def _rows(folder: Path, plan: Plan, quick: bool) -> Iterator[Row]:
    for name, make in MODELS.items():
        if name not in plan.models:
            yield left_out(name, "every server", "only in the full run")
            continue
        model = make(folder / "models", quick)
        made = variant(model, folder / "variants" / name) if name != "embedding" else "its graph is its own"
        model = replace(model, variants={} if isinstance(made, str) else {"onnx": made})
        yield from _of_model(folder / name, model, plan, quick)
    yield from _started(folder / "demo", 1 if quick else plan.rounds)


def _of_model(folder: Path, model: Served, plan: Plan, quick: bool) -> Iterator[Row]:
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for kind in KINDS:
            if kind not in plan.kinds:
                yield left_out(model.says, kind.name, "only in the full run")
                continue
            try:
                server = stack.enter_context(running(kind, model, folder / str(len(servers)) / "server", not quick))
            except NotRun as why:
                yield left_out(model.says, kind.name, str(why))
                continue
            server.freeze()
            servers[kind.name] = server
        peaks: dict[str, float] = {}
        for connections in plan.connections:
            found = _round(servers, connections, plan, {name: server.url for name, server in servers.items()})
            peaks = {name: max(peaks.get(name, 0.0), statistics.median(each.rate for each in loads)) for name, loads in found.items()}
            yield from turns(model.kind, model.says, connections, found, "direct")
        yield from _through_envoy(folder, model, servers, plan, stack)
        yield from _overloaded(model, servers, peaks, plan)
        for name, server in servers.items():
            target = MEMORY_MIB if not server.kind.peer else None
            yield measured(f"memory after the load: {model.says}", name, [server.memory_mib()], "MiB", target)


def _round(servers: Mapping[str, Server], connections: int, plan: Plan, urls: Mapping[str, str]) -> dict[str, list[load.Load]]:
    subjects: dict[str, Callable[[], load.Load]] = {
        name: partial(_turn, servers[name], partial(load.closed, url, servers[name].body, connections, plan.seconds))
        for name, url in urls.items()
    }
    return interleaved(subjects, plan.rounds)


def _turn(server: Server, send: Callable[[], load.Load]) -> load.Load:
    server.thaw()
    try:
        return send()
    finally:
        server.freeze()


def _through_envoy(folder: Path, model: Served, servers: Mapping[str, Server], plan: Plan, stack: ExitStack) -> Iterator[Row]:
    """Send the same through an Envoy of its own for each of Convoy's servers and the peer that figures are held against."""
    from benchmarks.traffic_cases.bare import BareEnvoy

    urls = {}
    for name in (CONVOY.name, COMPILED.name, ASYNC.name):
        if name not in servers:
            continue
        server = servers[name]
        envoy = BareEnvoy(folder / f"envoy-{len(urls)}", {"server": (100, (server.port,))})
        stack.callback(envoy.process.kill)
        urls[name] = envoy.start().url + server.kind.path
    for connections in plan.connections:
        yield from turns(model.kind, model.says, connections, _round(servers, connections, plan, urls), "through Envoy")


def _overloaded(model: Served, servers: Mapping[str, Server], peaks: Mapping[str, float], plan: Plan) -> Iterator[Row]:
    """Send twice of what each of Convoy's servers answered at most, at a rate that does not follow its answers."""
    for name, server in servers.items():
        if server.kind.peer:
            continue
        # long beside what the last answers of a queue take, which are not counted
        seconds = min(LONGEST, max(plan.seconds, SETTLED, QUEUES * load.OPEN_CLIENTS / peaks[name])) if peaks[name] else SETTLED
        twice = partial(load.open_, server.url, server.body, 2 * peaks[name], seconds)
        found = interleaved({name: partial(_turn, server, twice)}, plan.rounds)
        yield overload(model.says, name, peaks[name], found[name])


def _started(folder: Path, rounds: int) -> Iterator[Row]:
    """Start the demo's model as a region does, so often; say how long it took, what it holds, and what it has imported."""
    where = "a region's server with the demo's model"
    try:
        model = demo(folder / "mlflow")
    except Exception as why:  # noqa: BLE001 - the demo's rows come with a package of their own
        yield skipped(f"cold start: {where}", CONVOY.name, "s", f"{type(why).__name__}: {why}"[:160], COLD_SECONDS)
        return
    cold, memory, strange = [], [], set[str]()
    for number in range(rounds):
        with running(CONVOY, model, folder / str(number), full=True) as server:
            cold.append(server.cold)
            memory.append(server.memory_mib())
            strange |= server.loaded()
    yield measured(f"cold start: {where}", "to the first answer", cold, "s", COLD_SECONDS)
    yield measured(f"memory: {where}", CONVOY.name, memory, "MiB", MEMORY_MIB)
    yield Row(
        f"pandas and mlflow in the process: {where}", ", ".join(sorted(strange)) or "none", len(strange), "libraries", None, rounds, 0.0
    )
