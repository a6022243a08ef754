"""One installation of Convoy in one process: the real flows, ledger, stores and edge keepers, with fakes at their outer edges.

Stubbed are Prefect (tasks are called in place, tried again as they declare), processes, Envoy, MLflow's server, gates, the
Bento's build, and the judge's verdict, which follows from the kind of the version and from how often it was looked at.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest
from machine_facts import Facts
from machine_places import FakeLine, Kind, Mlflow, Regions
from machine_time import Clock, Runs
from obstore.store import MemoryStore
from prefect.tasks import Task

from clouds.serving import ServingTarget
from control import api, doors
from fleet.declared import Fleet
from fleet.errors import TransientError
from fleet.evidence import Attempts, GateOutcome, GateResult, Outcome, Verdict
from flows import baking, canary, gating, judging, operating, reconcile, release, shadowing, shipping, withdrawing
from flows.gate_report import as_payload
from flows.house import House
from flows.journal import Journal
from flows.observed import Observed, look_at
from flows.work import Work
from monitoring.share import MeasuredShare
from policies.files.gate import ModelFiles
from registry.leases import Held, Leases
from registry.ledger import Ledger
from registry.store import ContentStore
from support.stack import house_without_servers
from traffic import edges, gateway, keeper, memory, validation, writer

MODEL = "toy"
TICK, LEASE, TABLE = 5.0, 12.0, 20.0
LOOKS = {Kind.GOOD: (2, Outcome.PROMOTE), Kind.HARMFUL: (1, Outcome.ROLL_BACK)}
"""After how many looks at a version with traffic the judge says what."""


class OneProcess(House):
    """The installation, whose rooms are those of the world."""

    def target(self, region: str) -> ServingTarget:
        found: ServingTarget = vars(self)["world"].regions
        return found

    def region_store(self, region: str) -> ContentStore:
        found: ContentStore = vars(self)["world"].stores[region]
        return found


class Told:
    """A task without Prefect: called in place, and tried again as it declares."""

    def __init__(self, task: Task[Any, Any], clock: Clock) -> None:
        delays = task.retry_delay_seconds
        self.fn, self._clock = task.fn, clock
        self._delays = [float(each) for each in delays][: task.retries] if isinstance(delays, list) else []

    def __call__(self, *given: Any) -> Any:
        for delay in self._delays:
            try:
                return self.fn(*given)
            except TransientError:
                self._clock.sleep(delay)
        return self.fn(*given)

    def with_options(self, **_: Any) -> Told:
        return self

    def submit(self, *given: Any) -> Done:
        return Done(self, given)


class Done:
    """What was submitted, done at once."""

    def __init__(self, told: Told, given: tuple[Any, ...]) -> None:
        self._answer: Any = None
        self._problem: Exception | None = None
        try:
            self._answer = told(*given)
        except Exception as problem:  # noqa: BLE001 - it is raised by `result`
            self._problem = problem

    def wait(self) -> None:
        """It is there."""

    def result(self) -> Any:
        if self._problem is not None:
            raise self._problem
        return self._answer


class InPlace:
    """A pool of threads that is none: one after the other, in their order."""

    def __init__(self, max_workers: int) -> None:
        assert max_workers

    def __enter__(self) -> InPlace:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, act: Callable[[Any], Any], these: Iterable[Any]) -> list[Any]:
        return [act(each) for each in these]


class World:
    """Everything there is; `close` puts the modules back as they were."""

    def __init__(self, root: Path, traffic: dict[str, Any], more: dict[str, Any]) -> None:
        self.clock = Clock()
        self.runs = Runs(self.clock, self._chores)
        self.mlflow = Mlflow(self.runs.moment)
        self.started: list[str] = []
        self.looks: Counter[str] = Counter()
        house = house_without_servers(root)
        settings = house.settings.model_copy(update={"tick_seconds": TICK, "lease_seconds": LEASE, "table_seconds": TABLE})
        self.house = OneProcess(settings, house.home)
        first, second, *_ = house.fleet.regions
        self.stores = {region: ContentStore(MemoryStore(), region) for region in (*house.fleet.regions, "origin")}
        self.regions = Regions(self.clock, lambda *place: self.stores[place[0]].has_blob(place[1]), self._unfit, self._stopping)
        self._patches = pytest.MonkeyPatch()
        self._patch()
        self.edges = tuple(FakeLine(region, self, root / "edges" / region) for region in (first, second))
        declared = house.fleet.models[MODEL].model_dump(mode="json", exclude_unset=True) | more
        served = more.get("regions", [first, second])
        declared |= {"regions": served, "slo": {region: declared["slo"][region] for region in served}, "traffic": traffic}
        fleet = house.fleet.model_dump(mode="json", exclude_unset=True) | {"models": {MODEL: declared}}
        ledger = Ledger(house.ledger_url, self.clock.now)
        rooms = {"world": self, "fleet": Fleet.model_validate(fleet), "ledger": ledger, "models": self.mlflow, "edges": self.edges}
        vars(self.house).update(rooms, leases=Leases(ledger), origin=self.stores["origin"])
        self.facts = Facts(self)

    @property
    def ledger(self) -> Ledger:
        return self.house.ledger

    def kind_of(self, digest: str) -> Kind:
        return self.mlflow.kinds[self.facts.versions[digest]]

    def release(self) -> str:
        """Run the flow, as Prefect's runner does."""
        return str(release.release.fn(MODEL))

    def reconcile(self) -> None:
        """Run the flow that starts whatever was missed."""
        reconcile.reconcile.fn()

    def close(self) -> None:
        self.runs.end()
        self._patches.undo()
        self.ledger.close()

    def _chores(self) -> None:
        for edge in self.edges:
            edge.chores()

    def _unfit(self, region: str, digest: str) -> bool:
        return region == self.edges[1].name and self.facts.versions.get(digest) in self._versions(Kind.UNFIT)

    def _versions(self, kind: Kind) -> set[str]:
        return {version for version, found in self.mlflow.kinds.items() if found is kind}

    def _stopping(self, region: str, digest: str) -> None:
        self.facts.check_stopping(region, digest)

    def _patch(self) -> None:
        put = self._patches.setattr
        for module in [
            found for name, found in sys.modules.items() if name.partition(".")[0] in ("flows", "traffic", "registry", "control", "fleet")
        ]:
            self._patch_module(module)
        put(House, "open", lambda: self.house)
        put(Journal, "_reach", lambda *_: self.runs.moment("effect"))
        put(Held, "start", lambda held: self.runs.keep(held))
        put(Held, "stop", lambda held: self.runs.leave(held))
        put(Ledger, "append", self._watched(Ledger.append))
        put(Leases, "_set", self._watched(Leases._set))
        put(Leases, "take", self._watched(Leases.take))
        for pooled in (edges, sys.modules["flows.observed"], sys.modules["flows.observing"]):
            put(pooled, "ThreadPoolExecutor", InPlace)
        for judged in (canary, baking, shadowing):
            put(judged, "judge_now", self._judge_now)
        put(canary, "judge_seen", self._judge_seen)
        put(shadowing, "_of_copies", self._judge_copies)
        for shared in (canary, baking):
            put(shared, "measured_share", lambda *given, **_: MeasuredShare(given[3] / 100, 100, real=True))
        put(withdrawing, "ask_envoy", lambda edge, model, digest: edge.testify(model, digest))
        put(withdrawing, "POLL_SECONDS", 1.0)
        put(keeper, "EnvoyAdmin", lambda _: None)
        put(keeper, "PREPARE_SECONDS", 0.0)
        put(keeper, "CONFIRM_SECONDS", 0.0)
        put(validation, "validate", lambda *_: None)
        for written in (gateway, memory, writer):
            put(written, "write_atomically", self._write)
        put(gating, "_decide", self._decide)
        put(shipping, "_build", self._build)
        put(reconcile, "run_deployment", lambda *_, **__: self.started.append("reconcile"))
        put(reconcile, "drop_late_runs", lambda: None)
        put(reconcile, "end_open_drills", lambda *_: [])
        for woken in (api, doors, operating):
            if hasattr(woken, "announce"):
                put(woken, "announce", lambda *_: self.started.append("event"))

    def _patch_module(self, module: ModuleType) -> None:
        put = self._patches.setattr
        for name, found in list(vars(module).items()):
            if found is time:
                put(module, name, self.clock)
            elif isinstance(found, Task):
                put(module, name, Told(found, self.clock))
            elif name.startswith("show_") or name in ("open_desk", "close_desk"):
                put(module, name, lambda *_: None)
            elif name == "canonical_json":
                # The same bytes for what is written here, in a twentieth of the time
                put(module, name, lambda value: orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
            elif name == "get_run_logger":
                put(module, name, Silent)

    def _watched(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Give a write of the ledger with a moment before and after it."""

        def watched(*given: Any, **named: Any) -> Any:
            self.runs.moment("ledger")
            done = act(*given, **named)
            if getattr(done, "type", "") == "phase.entered":
                self.facts.catch_up()
            self.runs.moment("ledger")
            return done

        return watched

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        if path.name == "rds.json" and hasattr(self, "facts"):
            self.facts.check_edge(path.parent.parent.name)

    def _decide(self, work: Work, _source: object) -> dict[str, Any]:
        refused = self.mlflow.kinds[work.desire.version] is Kind.REFUSED
        scanned = as_payload(GateResult(ModelFiles.name, GateOutcome.PASSED, ("as the test has it",)))
        return {"refusals": ["schema: as the test has it"] if refused else [], "results": [scanned]}

    def _build(self, work: Work, _source: object) -> dict[str, Any]:
        bento = work.folder / "bento"
        bento.mkdir(parents=True, exist_ok=True)
        (bento / "model").write_text(work.desire.version)
        stored = work.house.origin.put_tree(bento)
        self.facts.versions[stored.digest] = work.desire.version
        return {"digest": stored.digest, "files": 1, "bytes": stored.size}

    def _judge_now(self, work: Work, seen: Observed, weight: int, wave: int = 1) -> judging.Judged:
        look, silent = look_at(work.house.edges, seen, int(self.clock.time()) + 1, weight, wave)
        self.looks[work.desire.release] += bool(weight)
        found = self._judge_seen(work, seen)
        if not self.looks[work.desire.release]:
            harms = self.kind_of(seen.sides.canary) is Kind.HARMFUL_COPY
            found = replace(found, outcome=Outcome.ROLL_BACK if harms else Outcome.NOT_ENOUGH_DATA)
        return judging.Judged(replace(found, reasons=(*found.reasons, *silent)), look.as_json(seen.sides), None)

    def _judge_seen(self, work: Work, seen: Observed) -> Verdict:
        needed, outcome = LOOKS.get(self.kind_of(seen.sides.canary), (0, Outcome.NOT_ENOUGH_DATA))
        looked = self.looks[work.desire.release]
        return Verdict(outcome if looked > needed else Outcome.NOT_ENOUGH_DATA, (f"looked {looked} times",), 0.0, 20.0, ())

    def _judge_copies(self, _work: Work, _attempts: Attempts, sides: Any) -> Verdict:
        proven = self.kind_of(sides.canary) is Kind.GOOD
        return Verdict(Outcome.PROMOTE if proven else Outcome.NOT_ENOUGH_DATA, ("of copies",), 0.0, 20.0, ())


class Silent:
    """A logger of nothing."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_given, **_named: None
