"""Drift measured from captured files and a pinned reference to the verdict, the report and the ledger; no server is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest

import flows.drifting
from bentos.service.capture import Capture
from bentos.service.scorer import Scorer
from bentos.service.signature import Signature
from bentos.service.tensors import Field
from control.demo.epilogue import plain, watches
from control.drift_commands import show_drift
from fleet.canonical import digest_of_file
from fleet.errors import InputError, UnknownName
from fleet.home import Home
from fleet.settings import Settings
from fleet.stack import Stack
from flows.drifting import drift_stream, measure_drift, report_url, watched
from flows.house import House
from flows.monitor_drift import page
from monitoring.drift import DriftOutcome
from support.data import pinned_rows
from support.stack import REGIONS, toy_fleet, write_fleet

FILE = "data/v1.parquet"
SCORER = Scorer("toy", "1", Signature((Field("x", np.dtype("float64")), Field("y", np.dtype("float64"))), (), frame=True, named=True), None)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(1)
    rows = pd.DataFrame({"x": random.normal(size=4000), "y": random.normal(size=4000), "employed": 1})
    return pinned_rows(tmp_path_factory.mktemp("data"), FILE, rows)


@pytest.fixture
def house(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An installation whose model `toy` declares drift and `calm` does not."""
    home = Home(tmp_path)
    fleet = toy_fleet(("calm",))
    drift = {"reference": {"repository": str(repository), "path": FILE}, "minimum_rows": 300}
    write_fleet(home, fleet | {"models": fleet["models"] | {"toy": fleet["models"]["calm"] | {"drift": drift}}})
    found = House(Settings(home=tmp_path), home)
    vars(found)["stack"] = Stack(stack_id="tests", port_base=7400)
    found.ledger.migrate()
    monkeypatch.setattr(House, "open", lambda: found)
    yield found
    found.ledger.close()


def answer(house: House, region: str, rows: int, seed: int, shift: float = 0.0) -> None:
    """Capture one answered request of many rows, as the region's server does."""
    random = np.random.default_rng(seed)
    values = {"x": random.normal(size=rows) + shift, "y": random.normal(size=rows)}
    inputs = [{"name": name, "datatype": "FP64", "shape": [rows], "data": column.tolist()} for name, column in values.items()]
    outputs = [{"name": "output", "datatype": "FP64", "shape": [rows], "data": (values["x"] * 2).tolist()}]
    capture = Capture(house.home.captured(region) / "toy", SCORER, ("sha256:" + "ab" * 32, region))
    capture.offer(b"id", orjson.dumps({"inputs": inputs}), orjson.dumps({"outputs": outputs}))
    capture.close()


def test_reports_and_their_folders_are_for_their_owner_alone_whatever_the_shell_allows(house, monkeypatch):
    before = os.umask(0o022)
    try:
        answer(house, "us-east-1", 400, 1)
        finding = measure_drift(house, "toy", "test")
    finally:
        os.umask(before)
    assert finding.report is not None
    for file in (finding.report, finding.report.with_suffix(".json")):
        assert file.stat().st_mode & 0o777 == 0o600
    for folder in (house.home.reports, house.home.reports / "drift", finding.report.parent, house.home.work / "references"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_shift_is_found_told_with_its_region_and_recorded_with_both_methods(house, repository):
    for seed, region in enumerate(REGIONS):
        answer(house, region, 300, seed, shift=2.5 if region == "europe-west4" else 0.0)

    finding = measure_drift(house, "toy", "test")

    assert (finding.verdict.outcome, finding.verdict.drifted) == (DriftOutcome.DRIFTED, ("x",))
    assert finding.verdict.reasons[0].startswith("'x' drifted: index ")
    assert "most in europe-west4 (" in finding.verdict.reasons[0]
    (event,) = house.ledger.stream(drift_stream("toy"))
    payload: dict[str, Any] = dict(event.payload)
    assert (event.type, event.actor, payload["outcome"]) == ("drift.measured", "test", "drifted")
    assert payload["rows"] == dict.fromkeys(REGIONS, 300)
    assert [(found["column"], found["drifted"]) for found in payload["columns"]] == [("x", True)]
    assert float(payload["columns"][0]["regions"]["europe-west4"]) > float(payload["columns"][0]["psi"]) > 0.2
    assert payload["reference"]["repository"] == str(repository)
    assert finding.report is not None
    stored = finding.report.with_suffix(".json")
    assert payload["figures"] == {"file": stored.name, "digest": digest_of_file(stored)}
    figures = json.loads(stored.read_text())
    assert [(found["column"], found["drifted"]) for found in figures["columns"]] == [("x", True), ("y", False)]
    assert {found["column"]: found["drifted"] for found in figures["evidently"]} == {"x": True, "y": False}
    assert figures["skipped"] == {
        "prediction.output": "the reference has no such column",
        "employed": "it is not among the captured rows",
    }
    assert payload["report"] == {"file": finding.report.name, "digest": digest_of_file(finding.report)}
    assert finding.report.parent == house.home.reports / "drift" / "toy"
    assert house.ledger.verify() == 1
    shown = page(finding, report_url(house, finding))
    assert shown.startswith("# Drifted: toy\n\n- 'x' drifted: index ")
    assert f"[Evidently's report](http://127.0.0.1:7400/reports/drift/toy/{finding.report.name})" in shown
    assert f"| x | {finding.measured.columns[0].psi} |" in shown


def test_the_same_kind_of_rows_is_stable_and_the_command_says_so_to_people_and_machines(house, capsys):
    for seed, region in enumerate(REGIONS):
        answer(house, region, 300, seed + 10)

    show_drift("toy", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["outcome"], found["rows"]) == ("stable", dict.fromkeys(REGIONS, 300))
    assert found["report_url"].startswith("http://127.0.0.1:7400/reports/drift/toy/")

    show_drift("toy", as_json=False)
    text = capsys.readouterr().out
    assert text.startswith("toy: stable\n")
    assert "http://127.0.0.1:7400/reports/drift/toy/" in text


def test_few_rows_are_no_verdict_and_make_no_report(house, capsys):
    answer(house, "us-east-1", 20, 1, shift=9.0)
    show_drift("toy", as_json=False)
    assert capsys.readouterr().out.startswith("toy: not enough data\n  20 rows were answered in the window, and 300 are needed")
    (event,) = house.ledger.stream(drift_stream("toy"))
    assert (event.payload["outcome"], event.payload["lack"], event.payload["report"]) == ("not enough data", "rows", None)


def test_a_lack_that_the_ledger_tells_already_is_not_told_again(house, monkeypatch):
    for _ in range(3):
        assert measure_drift(house, "toy", "test").verdict.outcome is DriftOutcome.NOT_ENOUGH_DATA
    assert len(house.ledger.stream(drift_stream("toy"))) == 1
    assert len(list((house.home.reports / "drift" / "toy").iterdir())) == 1
    answer(house, "us-east-1", 400, 1)
    monkeypatch.setattr(flows.drifting, "compare", lambda *_: ())
    measure_drift(house, "toy", "test")
    measure_drift(house, "toy", "test")
    assert [event.payload["outcome"] for event in house.ledger.stream(drift_stream("toy"))] == ["not enough data", "stable", "stable"]


def test_of_unmoved_columns_the_ledger_keeps_the_one_that_moved_most(house, monkeypatch):
    answer(house, "us-east-1", 400, 1)
    monkeypatch.setattr(flows.drifting, "compare", lambda *_: ())
    finding = measure_drift(house, "toy", "test")
    (event,) = house.ledger.stream(drift_stream("toy"))
    told = watches("toy")[0].says(plain(event))
    assert told.startswith(f"stable, 400 rows of three regions against {FILE}; the most that a column moved: ")
    (column,) = finding.payload()["columns"]
    assert column["column"] == finding.measured.columns[0].column
    assert len(finding.figures()["columns"]) == 2


def test_rows_before_the_window_do_not_count_and_what_cannot_be_read_is_told(house, monkeypatch):
    answer(house, "us-east-1", 400, 1)
    broken = next(house.home.captured("us-east-1").glob("toy/*/*.parquet")).with_name("9999999999999-1-000001.parquet")
    broken.write_bytes(b"no parquet")
    now: datetime = house.ledger.now()
    monkeypatch.setattr(house.ledger, "now", lambda: now.replace(year=now.year + 1))

    finding = measure_drift(house, "toy", "test")

    assert dict(finding.measured.rows) == dict.fromkeys(REGIONS, 0)
    assert finding.verdict.outcome is DriftOutcome.NOT_ENOUGH_DATA
    remark, revision = finding.remarks
    assert revision == f"The reference's revision HEAD was commit {finding.reference.commit[:12]} this time."
    assert remark.startswith("In us-east-1 captured files could not be read: captured/toy/")


def test_when_evidently_fails_the_verdict_stands_and_the_failure_is_told(house, monkeypatch):
    def fails(*_: object) -> None:
        raise RuntimeError("could not convert string to float: 'what a caller sent'")

    answer(house, "us-east-1", 400, 1)
    monkeypatch.setattr(flows.drifting, "compare", fails)
    finding = measure_drift(house, "toy", "test")
    assert (finding.verdict.outcome, finding.report) == (DriftOutcome.STABLE, None)
    assert finding.remarks[-1] == "Evidently gave no opinion (RuntimeError)."
    assert "a caller sent" not in str(house.ledger.stream(drift_stream("toy"))[-1].payload)


def test_only_the_newest_reports_are_kept(house, monkeypatch):
    def page(*given: Any) -> tuple[()]:
        given[-1].touch()
        return ()

    monkeypatch.setattr(flows.drifting, "KEPT", 2)
    monkeypatch.setattr(flows.drifting, "KEPT_FIGURES", 3)
    monkeypatch.setattr(flows.drifting, "compare", page)
    answer(house, "us-east-1", 400, 1)
    for _ in range(4):
        measure_drift(house, "toy", "test")
    left = [path.suffix for path in (house.home.reports / "drift" / "toy").iterdir()]
    assert sorted(left) == [".html"] * 2 + [".json"] * 3
    assert len(house.ledger.stream(drift_stream("toy"))) == 4


def test_only_models_with_a_drift_section_are_watched_and_others_are_refused_with_the_remedy(house):
    assert watched(house) == ["toy"]
    with pytest.raises(InputError, match="declares no drift") as refused:
        measure_drift(house, "calm", "test")
    assert "section `drift`" in refused.value.remedy
    with pytest.raises(UnknownName, match="known: calm, toy"):
        measure_drift(house, "stranger", "test")
    assert house.ledger.verify() == 0
