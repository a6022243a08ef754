"""Two controllers of one model, real agents, a real ledger: one is paused past its lease and woken, and nothing of it is accepted."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_harness import CANARY, Process, RealEdge, begin_anew, edges_in, envoy_percent, wait_until

from registry.ledger import Ledger
from support.epochs import go_on_from

MODEL = "employment"
REGIONS = ("us", "eu", "asia")
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealEdge, ...]]:
    with edges_in(tmp_path_factory.mktemp("edges"), REGIONS) as several:
        yield several


@pytest.fixture
def edges(standing: tuple[RealEdge, ...]) -> tuple[RealEdge, ...]:
    begin_anew(standing)
    return standing


class Controller:
    """A controller in a process of its own, and what became of its writes."""

    def __init__(self, folder: Path, name: str, case: dict[str, Any]) -> None:
        self.log, file = folder / f"{name}.jsonl", folder / f"{name}.json"
        self.log.touch()
        file.write_text(json.dumps(case | {"name": name}))
        command = [sys.executable, str(TESTS / "flows" / "rival_controller.py"), str(file), str(self.log)]
        path = {"PYTHONPATH": str(TESTS.parent)}
        self.process = Process(command, folder / f"{name}.out", environment=path).start()

    def writes(self, since: float = 0.0) -> list[dict[str, Any]]:
        """Return what was begun since a moment; a line that is being written is none yet."""
        found = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return [write for write in found if write["begun"] >= since]

    def accepted(self, what: str = "") -> bool:
        return any(write["accepted"] and write["what"].startswith(what) for write in self.writes())


@pytest.mark.parametrize(
    ("lease_seconds", "pause"),
    [(2, 3.0), pytest.param(15, 30.0, marks=pytest.mark.long)],
    ids=["for a moment", "for 30 seconds"],
)
def test_a_controller_that_was_paused_past_its_lease_writes_nothing_when_it_wakes(
    edges: tuple[RealEdge, ...], tmp_path: Path, lease_seconds: int, pause: float
) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    go_on_from(ledger, MODEL, edges[0].epoch)
    case = {
        "ledger": f"sqlite:///{tmp_path / 'ledger.db'}",
        "lease_seconds": lease_seconds,
        "edges": [{"name": edge.client.name, "url": edge.client.url, "token": edge.client.token} for edge in edges],
    }
    first = Controller(tmp_path, "first", case | {"table": edges[0].table(1, canary=20).to_json().decode()})
    second = None
    try:
        wait_until(lambda: first.accepted("shift") and first.accepted("event"), 30, "the first controller's writes")
        freeze_between_transactions(first, tmp_path / "ledger.db")
        frozen = time.monotonic()
        second = Controller(tmp_path, "second", case | {"table": edges[0].table(1, canary=5).to_json().decode()})
        wait_until(lambda: second.accepted("shift") and second.accepted("event"), lease_seconds + 30, "the second controller's writes")
        wait_until(lambda: time.monotonic() - frozen >= pause, pause + 1, "the pause")
        woken = time.time()
        first.process.thaw()
        wait_until(lambda: {write["what"] for write in first.writes(woken)} >= every_kind(), 60, "the woken one's writes")
        wait_until(lambda: len(second.writes(woken)) > 20, 60, "the second controller's writes meanwhile")
        late = first.writes(woken)
        assert [write for write in late if write["accepted"]] == []
        assert all("newer" in write["says"] or "passed" in write["says"] or "epoch" in write["says"] for write in late)
        assert [write for write in second.writes(woken) if not write["accepted"] and write["what"] in ("shift", "event")] == []
        (epoch,) = {write["epoch"] for write in second.writes()}
        assert {edge.model().table.epoch for edge in edges} == {epoch}
        assert {write["epoch"] for write in late} == {epoch - 1}
        newest = [event.epoch for event in ledger.events()]
        assert newest == sorted(newest)
    finally:
        for controller in filter(None, (first, second)):
            controller.process.kill()
    assert all(envoy_percent(edge, CANARY) <= 5 for edge in edges)


def freeze_between_transactions(controller: Controller, database: Path) -> None:
    """Stop it where it holds no lock on an SQLite ledger: one that does keeps every other from the lease until it is woken or ended."""

    def stopped_without_the_lock() -> bool:
        controller.process.freeze()
        with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as probe:
            try:
                probe.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                controller.process.thaw()
                return False
        return True

    wait_until(stopped_without_the_lock, 10, "a moment between two transactions")


def every_kind() -> set[str]:
    return {"shift", "event", *(f"{verb} {region}" for verb in ("apply", "safe") for region in REGIONS)}
