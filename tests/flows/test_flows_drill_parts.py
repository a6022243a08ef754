"""The parts of a drill that need no running stack: its requests, its journal, its result on a page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import Busy, InputError, NotSupported
from fleet.home import Home
from fleet.settings import Settings
from fleet.versions import Revision
from flows.drill_checks import DrillPlan
from flows.drill_journal import BROKEN, ENDED, DrillJournal, drilled_regions, last_drilled, open_drill
from flows.drill_mending import DRILLER, end_open_drills
from flows.drill_requests import EXAMPLE, bodies_of, example_of
from flows.drilling import DrillReport
from flows.failover_drill import as_markdown
from flows.house import House
from monitoring.drills import DrillOutcome, ModelResult
from registry.ledger import Ledger
from registry.store import ContentStore
from support.stack import toy_fleet, write_fleet

INPUTS: list[dict[str, Any]] = [
    {"name": "age", "datatype": "INT64", "shape": [-1]},
    {"name": "wage", "datatype": "FP64", "shape": [-1]},
    {"name": "job", "datatype": "BYTES", "shape": [-1]},
]
FRAME = {"dataframe_split": {"columns": ["job", "age", "wage", "unknown"], "data": [["cook", 41.0, 12.5, 0], [None, 3, None, 1]]}}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    made.migrate()
    return made


def test_each_row_of_an_example_becomes_a_request_with_the_types_of_the_signature() -> None:
    first, second = (json.loads(body)["inputs"] for body in bodies_of(FRAME, INPUTS, "m"))
    assert {each["name"]: (each["datatype"], each["data"]) for each in first} == {
        "job": ("BYTES", ["cook"]),
        "age": ("INT64", [41]),
        "wage": ("FP64", [12.5]),
    }
    assert isinstance(first[1]["data"][0], int)
    assert {each["name"]: each["data"] for each in second} == {"age": [3], "wage": [None]}


@pytest.mark.parametrize("example", [{}, {"inputs": [[1, 2]]}, {"dataframe_split": {"columns": ["age"], "data": []}}])
def test_an_example_that_is_no_table_is_not_supported_and_the_remedy_is_named(example: dict[str, Any]) -> None:
    with pytest.raises(NotSupported, match="input_example="):
        bodies_of(example, INPUTS, "m")


def test_the_example_is_read_from_the_regions_own_store_and_a_model_without_one_is_not_supported(tmp_path: Path) -> None:
    store, tree = ContentStore.at(tmp_path / "store"), tmp_path / "tree"
    (tree / EXAMPLE).parent.mkdir(parents=True)
    (tree / EXAMPLE).write_text(json.dumps(FRAME))
    assert example_of(store, Revision("m", "1", store.put_tree(tree).digest)) == FRAME
    (tree / EXAMPLE).rename(tree / "other")
    with pytest.raises(NotSupported, match="without an input example"):
        example_of(store, Revision("m", "2", store.put_tree(tree).digest))


def test_a_drill_is_open_from_its_intent_to_its_end(ledger: Ledger) -> None:
    assert (open_drill(ledger, "east"), last_drilled(ledger, "east")) == (None, None)
    journal = DrillJournal.begin(ledger, "east", "test", {"models": {"m": "sha256:1"}})
    started = open_drill(ledger, "east")
    assert started is not None
    assert (started.payload["drill"], drilled_regions(ledger)) == ("east-drill-1", ("east",))
    journal.record(BROKEN, {})
    journal.record(ENDED, {"outcome": "passed"})
    assert open_drill(ledger, "east") is None
    assert last_drilled(ledger, "east") is not None
    assert DrillJournal.begin(ledger, "east", "test", {}).drill == "east-drill-2"
    assert open_drill(ledger, "west") is None
    assert {event.intent_id for event in ledger.stream("drill/east")[:3]} == {started.intent_id}


def test_a_drill_that_was_ended_by_somebody_else_writes_no_more(ledger: Ledger) -> None:
    paused = DrillJournal.begin(ledger, "east", "a drill", {"models": {}})
    started = open_drill(ledger, "east")
    assert started is not None
    DrillJournal.of(ledger, started, "east", "reconcile").record(ENDED, {"outcome": "aborted"})
    with pytest.raises(Busy):
        paused.record(BROKEN, {})


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": float("nan")}, {"rate": 1e9}, {"window_seconds": 0.1}])
def test_a_plan_that_would_measure_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        DrillPlan("east", **wrong)


def test_a_drill_under_way_is_left_alone_and_one_whose_process_ended_is_ended_once(ledger: Ledger, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    write_fleet(home, toy_fleet(("m",)))
    house = House(Settings(home=home.root, ledger_url=f"sqlite:///{tmp_path / 'ledger.db'}"), home)
    DrillJournal.begin(ledger, "gone", "a drill", {"models": {"m": "sha256:" + "1" * 64}})
    lease = house.leases.take("m", f"{DRILLER} 1234", 60)
    assert lease is not None
    assert end_open_drills(house, "test", print) == []
    house.leases.give_back(lease)
    (done,) = end_open_drills(house, "test", print)
    assert "no longer declared there" in done
    assert [event.type for event in ledger.stream("drill/gone")] == ["drill.started", "drill.mended", "drill.ended"]
    assert end_open_drills(house, "test", print) == []


def test_a_result_is_a_page_with_every_figure_of_every_model() -> None:
    found = ModelResult("m", "sha256:1", 100, 0, 0, 20.0, 3, 3, 0.0, 0.2, None, None, 10, 0, 0)
    page = as_markdown(DrillReport("east-drill-1", "east", DrillOutcome.FAILED, ("m: why",), datetime.now(UTC), 50.0, 5.0, (found,)))
    assert page.startswith("# Failed: drill of east")
    assert "- m: why" in page
    assert "| failed attempts at the edge | 3, at least 3 of them rescued |" in page
    assert "| ready again, after mending | not seen |" in page
