"""A real stack for the tests: quick canaries, short leases, one toy model per test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from clouds.local.supervisor import Supervisor
from control.stack.components import Site, deploying_environment
from control.stack.records import ensure_credentials, ensure_operators, record_stack
from control.views import ReleaseView, release_views
from fleet.home import Home
from fleet.settings import Settings, inherited_environment
from flows.desires import CANDIDATE, CHAMPION, observe_candidate
from flows.house import House
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
NOBODY = 9
"""No stack ever has its ports from here on, so nobody answers there."""
REGIONS = ("us-east-1", "europe-west4", "southeastasia")
DRILLED, DRILLED_REGION = "drilled", "sa-east-1"
SHADOWED, AT_ONCE, IN_WAVES = "shadowed", "at-once", "in-waves"
WAVES = (REGIONS[:1], REGIONS[1:])
BUDGETED, BUDGET = "budgeted", 40
GATED = "gated"
# A toy model doubles a missing value, so it is not asked for one
GATES = {"golden": {"parity": 1}, "service": {"rate": 20, "seconds": 1, "odd": ["wrong type", "missing column", "unseen value"]}}
REQUIREMENTS = ("mlflow", "pandas", "numpy", "cloudpickle")


def toy_fleet(models: tuple[str, ...], regions: tuple[str, ...] = REGIONS) -> dict[str, Any]:
    """Return a fleet of toy models that are canaried within seconds."""
    providers = {"us-east-1": ("aws", "US"), "europe-west4": ("gcp", "NL"), "southeastasia": ("azure", "SG")}
    model = {
        "owner": "tests@example.org",
        "on_call": "#tests",
        "runbook": "https://runbooks.example.org/toy",
        "regions": list(regions),
        "slo": {region: {"latency_ms": 500, "error_rate": 0.01} for region in regions},
        "rto_seconds": 60,
        "rpo_releases": 0,
        "rollback": {"margin": 0.1},
        "canary": {"steps": [{"weight": 20, "seconds": 1}, {"weight": 50, "seconds": 1}], "max_seconds": 60},
        # A toy model is a Python file
        "gates": {"files": {"code": True}},
    }
    prices = {"currency": "USD", "cpu_second": "0.00002", "memory_gib_second": "0.000002", "request": "0.0000004", "gib_out": "0.1"}
    return {
        "version": 1,
        "name": "tests",
        "regions": {
            name: {"target": "local", "provider": providers[name][0], "place": name, "jurisdiction": providers[name][1], "prices": prices}
            for name in regions
        },
        "models": dict.fromkeys(models, model),
    }


def with_small(fleet: dict[str, Any], models: tuple[str, ...]) -> dict[str, Any]:
    """Have some models in the first region alone, where a test asks about the order of releases and not about regions."""
    first = next(iter(fleet["regions"]))
    small = {name: {**fleet["models"][name], "regions": [first], "slo": {first: fleet["models"][name]["slo"][first]}} for name in models}
    return {**fleet, "models": {**fleet["models"], **small}}


def with_drilled(fleet: dict[str, Any]) -> dict[str, Any]:
    """Add a model of its own to a fleet of toy models, in the first region and in one that serves nothing else: to be lost in drills."""
    (model, *_), (first, *_) = fleet["models"].values(), fleet["regions"]
    regions = [first, DRILLED_REGION]
    place = {"target": "local", "provider": "aws", "place": DRILLED_REGION, "jurisdiction": "BR"}
    # Timeouts derive from the limit: a drill measures what a lost region costs callers, not how busy the tests' machine is
    slo = {region: {"latency_ms": 2000, "error_rate": 0.01} for region in regions}
    drilled = {**model, "regions": regions, "slo": slo}
    return {**fleet, "regions": {**fleet["regions"], DRILLED_REGION: place}, "models": {**fleet["models"], DRILLED: drilled}}


def with_traffic(fleet: dict[str, Any]) -> dict[str, Any]:
    """Add models that declare how their requests are dealt out.

    One answers copies first and bakes, one is switched at once, one walks its canary in two waves, and one follows a
    harm budget in one region.
    """
    (model, *_) = fleet["models"].values()
    # The load is one caller, whose bad answers of a second count once: a shadow that fails needs some seconds to be convicted
    first = {"shadow": {"percent": 100, "seconds": 30, "answers": 900}, "bake_seconds": 2}
    once = {"mode": "blue-green", "bake_seconds": 3}
    # What is switched at once has no steps
    without = {name: value for name, value in model.items() if name != "canary"} | {"canary": {"max_seconds": 60}}
    budgeted = {**model, "canary": {"harm_budget": BUDGET, "max_seconds": 90}}
    waves = {"canary": model["canary"] | {"waves": [list(wave) for wave in WAVES]}}
    traffic = {SHADOWED: model | {"traffic": first}, AT_ONCE: without | {"traffic": once}, IN_WAVES: model | waves, BUDGETED: budgeted}
    return with_small({**fleet, "models": {**fleet["models"], **traffic}}, (BUDGETED,))


def with_gated(fleet: dict[str, Any]) -> dict[str, Any]:
    """Add a model whose service is measured and whose regions are asked for golden answers."""
    (model, *_) = fleet["models"].values()
    return {**fleet, "models": {**fleet["models"], GATED: model | {"gates": model["gates"] | GATES}}}


@dataclass(frozen=True)
class TestStack:
    """A running stack and what tests do with it."""

    __test__ = False

    settings: Settings
    house: House

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command or flow that belongs to this stack."""
        site = Site(self.house.home, self.settings, self.house.stack, self.house.credentials)
        return inherited_environment() | deploying_environment(site)

    def convoy(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run the convoy command."""
        command = [str(Path(sys.executable).with_name("convoy")), *arguments]
        return subprocess.run(command, env=self.environment | extra, capture_output=True, text=True, timeout=240, check=False)

    def flow(self, call: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a flow in a process of its own, as the runner would: `release("toy")`."""
        name = call.partition("(")[0]
        return self.python(f"from flows.{name} import {name}\nprint({call})", **extra)

    def python(self, program: str, **extra: str) -> subprocess.CompletedProcess[str]:
        """Run a program in this stack's environment."""
        command = [sys.executable, "-c", program]
        environment = self.environment | extra
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)

    def register(self, model: str, behaviour: str = "good", schema: bool = True, offset: float = 0.0) -> str:
        """Register a toy version and return its number."""
        import mlflow

        mlflow.set_tracking_uri(self.house.stack.mlflow_url)
        module = _toy_module()
        import pandas as pd

        example = pd.DataFrame({"x": [-1.0]})
        info = mlflow.pyfunc.log_model(
            name=model,
            python_model=module.ToyModel(behaviour, offset),
            code_paths=[str(Path(__file__).with_name("toy_model.py"))],
            registered_model_name=model,
            signature=mlflow.models.infer_signature(example, [1.0]) if schema else None,
            input_example=example if schema else None,
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
        )
        return str(info.registered_model_version)

    def candidate(self, model: str, version: str) -> None:
        """Set the alias candidate with the plain client."""
        from mlflow import MlflowClient

        MlflowClient(self.house.stack.mlflow_url).set_registered_model_alias(model, "candidate", version)

    def want(self, model: str, version: str) -> str:
        """Open a desire without waking anybody: the webhook that follows sees nothing new. Returns the release."""
        opened = observe_candidate(self.house.ledger, model, version, "test")
        assert opened is not None
        self.house.models.set_alias(model, CANDIDATE, version)
        return opened.release

    def release(self, model: str, version: str, crash_at: str = "") -> subprocess.CompletedProcess[str]:
        """Want a version and tell its release in a process of its own; `crash_at` kills that process at an effect."""
        self.want(model, version)
        return self.flow(f"release({model!r})", **({"CONVOY_CRASH_AT": crash_at} if crash_at else {}))

    def snapshot(self, model: str) -> dict[str, Any]:
        """Return everything that a refused request must leave as it was."""
        state = self.house.edges[0].state().of(model)
        return {
            "ledger": self.house.ledger.verify(),
            "stores": sorted(str(path) for region in REGIONS for path in self._stored(region)),
            "aliases": [self.house.models.alias(model, name) for name in (CANDIDATE, CHAMPION)],
            "table": None if state is None else (state.table.order, state.table.shares),
        }

    def _stored(self, region: str) -> list[Path]:
        """Return what a region's store holds but for what comes by itself: captured rows, and the ledger's signed heads."""
        store = self.house.home.region_store(region)
        return [path for path in store.rglob("*") if path.relative_to(store).parts[0] not in ("captured", "heads")]

    def releases(self, model: str) -> tuple[ReleaseView, ...]:
        """Return the releases of a model."""
        return release_views(self.house.ledger, model)

    def ended(self, model: str, number: int, seconds: float = 150) -> ReleaseView:
        """Wait for the end of a model's n-th release (from 1)."""

        def found() -> ReleaseView | None:
            views = self.releases(model)
            return views[number - 1] if len(views) >= number and views[number - 1].ended else None

        return wait_until(found, seconds, 0.3, f"release {number} of {model} has ended")  # type: ignore[return-value]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody but the test tell releases while the block runs: reconcile would take up what it kills, or wants."""
        supervisor = Supervisor.of(self.house.home)
        supervisor.stop("runner")
        try:
            yield
        finally:
            supervisor.start("runner")

    @contextmanager
    def load(self, model: str, rate: float = 40.0) -> Iterator[Load]:
        """Send requests at a constant rate while the block runs."""
        folder = self.house.home.root / "load"
        folder.mkdir(exist_ok=True)
        bodies, log = folder / f"{model}.bodies", folder / f"{model}.jsonl"
        bodies.write_text("".join(json.dumps(request(float(number))) + "\n" for number in range(50)))
        url = f"{self.house.stack.edge_url}/v2/models/{model}/infer"
        command = [sys.executable, "-m", "traffic.load", "--url", url, "--rate", str(rate), "--bodies", str(bodies), "--log", str(log)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=inherited_environment())
        found = Load(log)
        try:
            yield found
        finally:
            process.terminate()
            printed, _ = process.communicate(timeout=40)
        found.totals.update(json.loads(printed))


class Load:
    """What a load came to, once it has ended."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.totals: dict[str, int] = {}

    def answers(self) -> list[dict[str, Any]]:
        """Return one record per request."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def failed(self) -> list[dict[str, Any]]:
        """Return the requests without a 2xx."""
        return [sent for sent in self.answers() if not 200 <= sent["status"] < 300]


def request(value: float) -> dict[str, Any]:
    """Return a v2 request to a toy model."""
    return {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}]}


def house_without_servers(root: Path) -> House:
    """Return a house with a ledger and a fleet of one toy model; neither Prefect nor MLflow is there."""
    home = Home(root)
    write_fleet(home, toy_fleet(("toy",)))
    record_stack(home, NOBODY)
    ensure_credentials(home)
    ensure_operators(home)
    found = House(Settings(home=root), home)
    found.ledger.migrate()
    return found


def write_fleet(home: Home, fleet: dict[str, Any]) -> None:
    """Write a fleet file into a home."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.fleet_file.write_text(json.dumps(fleet, indent=2))


def _toy_module() -> Any:
    """Import the toy model under the name that it has inside the model."""
    import importlib

    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("toy_model")
