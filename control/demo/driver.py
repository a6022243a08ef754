"""What the story needs done: rows committed, versions registered, load sent, failures classified."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from control.demo.classification import Classification
from control.demo.register import DataRepository, Registrar
from control.demo.rows import FEATURES, NUMERIC, Pair
from control.demo.versions import Version
from fleet.errors import OperationFailed
from fleet.settings import STACK_MARK, inherited_environment
from flows.house import House
from traffic.edges import observe
from traffic.load import Totals

if TYPE_CHECKING:
    import pandas as pd

CLASSIFIER = Path(__file__).parents[2] / "examples" / "classify_failures.py"
STOP_SECONDS = 40.0
SETTLE_SECONDS = 30.0


@dataclass
class Driver:
    """Acts on one running stack; `folder` is the demo's own part of the home."""

    house: House
    model: str
    versions: dict[str, Version]
    report: Callable[[str], None]
    quiet: bool = False
    commit: str = ""
    load: subprocess.Popen[str] | None = None
    totals: Totals | None = None
    pair_bodies: frozenset[int] = frozenset()

    @property
    def folder(self) -> Path:
        """Where the demo keeps its data repository and its client's log."""
        return self.house.home.root / "demo"

    @property
    def repository(self) -> DataRepository:
        """The demo's own Git and DVC repository."""
        return DataRepository(self.folder / "data-repository", self.folder / "data-remote")

    def commit_rows(self, frames: dict[str, pd.DataFrame]) -> None:
        """Commit the rows of every version and of the gates."""
        self.commit = self.repository.commit(frames)

    def register(self, name: str, rows: pd.DataFrame, holdout: pd.DataFrame) -> str:
        """Train and register a version; returns MLflow's number."""
        registrar = Registrar(self.house.stack.mlflow_url, self.model, self.repository, self.commit)
        return registrar.register(self.versions[name], rows, holdout)

    def write_bodies(self, rows: pd.DataFrame, pair: Pair) -> None:
        """Write one Open Inference request per row for the load generator; `pair_bodies` are those that hold the pair."""
        self.pair_bodies = frozenset(index for index, holds in enumerate(pair.holds(rows)) if holds)
        columns = list(FEATURES)
        with self.bodies_file.open("wb") as file:
            for row in rows[columns].itertuples(index=False):
                inputs = [
                    {"name": name, "shape": [1], "datatype": "FP64" if name in NUMERIC else "INT64", "data": [value]}
                    for name, value in zip(columns, row, strict=True)
                ]
                file.write(json.dumps({"inputs": inputs}).encode() + b"\n")

    @property
    def bodies_file(self) -> Path:
        """The requests that the load generator chooses from."""
        return self.folder / "requests.jsonl"

    @property
    def client_log(self) -> Path:
        """One line per request sent."""
        return self.folder / "client.jsonl"

    def start_load(self, rate: float, seed: int) -> None:
        """Start the open-loop load; it goes on until `stop_load`."""
        url = f"{self.house.edge_place(None).url}/v2/models/{self.model}/infer"
        options = {"--url": url, "--rate": str(rate), "--seed": str(seed), "--bodies": str(self.bodies_file), "--log": str(self.client_log)}
        command = [sys.executable, "-m", "traffic.load", *(text for pair in options.items() for text in pair)]
        environment = inherited_environment() | {STACK_MARK: self.house.stack.stack_id}
        self.load = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2])

    def stop_load(self) -> None:
        """Stop the load, wait for what is under way and keep its totals."""
        if self.load is None:
            return
        self.load.terminate()
        printed, _ = self.load.communicate(timeout=STOP_SECONDS)
        status, self.load = self.load.returncode, None
        if status != 0:
            raise OperationFailed("load generator", f"ended with status {status}", f"See {self.client_log}.")
        self.totals = TypeAdapter(Totals).validate_json(printed)

    def classify(self) -> Classification:
        """Have the failures classified from the logs by a script that knows nothing of Convoy."""
        self._wait_for_logs()
        ledger_file = self.folder / "ledger.json"
        events = [json.loads(event.to_bytes()) for event in self.house.ledger.events()]
        ledger_file.write_text(json.dumps(events), encoding="utf-8")
        folders = [self.house.home.edge(place.name) for place in self.house.edge_places]
        command = [sys.executable, "-I", str(CLASSIFIER), "--client", str(self.client_log), "--ledger", str(ledger_file)]
        command += ["--access", *(str(log) for folder in folders for log in sorted(folder.glob("access.log*")))]
        command += ["--attempts", *(str(log) for folder in folders for log in sorted(folder.glob("attempts.log*")))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=inherited_environment())
        if done.returncode != 0:
            raise OperationFailed(str(CLASSIFIER), done.stderr.strip()[-500:])
        return Classification.model_validate_json(done.stdout)

    def _wait_for_logs(self) -> None:
        """Wait until every edge has counted everything that was answered up to now."""
        target, deadline = int(time.time()) + 1, time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            if observe(self.house.edges, self.model, target - 5).complete_to >= target:
                return
            time.sleep(0.25)
        raise OperationFailed("edge", f"did not count its log within {SETTLE_SECONDS:.0f} s", "See its agent's log.")
