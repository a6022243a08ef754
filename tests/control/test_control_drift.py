"""From the rows that callers send through the edge to the verdict, the ledger and a report in the browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pandas as pd
import pytest

from fleet.canonical import digest_of
from support.data import pinned_rows
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.stack import TestStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
# Served by other tests already: what it answers there is of no concern here.
MODEL = "refused"
ROWS, REQUESTS = 60, 15


@pytest.fixture(scope="module")
def served(stack: TestStack) -> TestStack:
    if not any(view.phase == "promoted" for view in stack.releases(MODEL)):
        done = stack.convoy("release", MODEL, "--version", stack.register(MODEL), "--wait")
        assert done.returncode == 0, done.stderr
    return stack


@pytest.fixture(scope="module")
def watching(served: TestStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet file that declares drift for the model, whose reference has x around 0."""
    folder = tmp_path_factory.mktemp("drift")
    x = np.random.default_rng(1).normal(size=3000)
    root = pinned_rows(folder, "rows.parquet", pd.DataFrame({"x": x}))
    fleet: dict[str, Any] = json.loads(served.house.home.fleet_file.read_text())
    drift = {"reference": {"repository": str(root), "path": "rows.parquet"}, "window_seconds": 300, "minimum_rows": ROWS * REQUESTS}
    file = folder / "fleet.yaml"
    file.write_text(json.dumps(fleet | {"models": fleet["models"] | {MODEL: fleet["models"][MODEL] | {"drift": drift}}}))
    return file


@pytest.mark.long
def test_a_shift_in_live_rows_is_found_and_its_report_opens_in_a_browser(served: TestStack, watching: Path) -> None:
    send(served, shift=4.0)

    done = served.convoy("drift", MODEL, "--json", CONVOY_FLEET=str(watching))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert (found["outcome"], found["columns"][0]["column"]) == ("drifted", "x")
    assert found["reasons"][0].startswith("'x' drifted: index ")
    assert [count > 0 for count in found["rows"].values()] == [True] * 3
    assert sum(found["rows"].values()) >= ROWS * REQUESTS
    assert found["evidently"][0]["drifted"] is True
    assert served.house.ledger.stream(f"drift/{MODEL}")[-1].payload["report"] == found["report"]
    page = httpx.get(found["report_url"], timeout=10)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert digest_of(page.content) == found["report"]["digest"]


def test_the_flow_measures_every_model_that_declares_drift_and_shows_the_verdict(served: TestStack, watching: Path, tmp_path: Path) -> None:
    unmet = tmp_path / "fleet.yaml"
    unmet.write_text(watching.read_text().replace(f'"minimum_rows": {ROWS * REQUESTS}', '"minimum_rows": 1000000'))
    done = served.flow("monitor_drift()", CONVOY_FLEET=str(unmet))
    assert done.stdout.splitlines()[-1] == f"['{MODEL}: not enough data']", done.stderr
    assert served.house.ledger.stream(f"drift/{MODEL}")[-1].actor == "monitor_drift flow"
    url = f"{served.house.stack.prefect_url}/api/artifacts/drift-{MODEL}/latest"
    assert httpx.get(url, timeout=10).json()["data"].startswith(f"# Not enough data: {MODEL}\n")


@pytest.mark.parametrize(("model", "says"), [("stranger", "is not in fleet.yaml"), (MODEL, "Give it a section `drift` in fleet.yaml")])
def test_a_model_that_cannot_be_measured_is_told_with_exit_code_2_and_changes_nothing(served: TestStack, model: str, says: str) -> None:
    before = served.snapshot(MODEL)
    done = served.convoy("drift", model)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert served.snapshot(MODEL) == before


def send(stack: TestStack, shift: float) -> None:
    """Ask the model for many rows through the edge, and wait until every region has written what it answered."""
    random = np.random.default_rng(2)
    begun, url = stack.house.ledger.now(), f"{stack.house.stack.edge_url}/v2/models/{MODEL}/infer"
    for _ in range(REQUESTS):
        tensor = {"name": "x", "datatype": "FP64", "shape": [ROWS], "data": (random.normal(size=ROWS) + shift).tolist()}
        assert httpx.post(url, json={"inputs": [tensor]}, timeout=10).status_code == 200

    def captured() -> bool:
        regions = [stack.house.captures(region).window(MODEL, begun, stack.house.ledger.now()) for region in stack.house.fleet.regions]
        return sum(len(window.rows) for window in regions) >= ROWS * REQUESTS

    wait_until(captured, 60, 0.3, "every answered row is captured")
