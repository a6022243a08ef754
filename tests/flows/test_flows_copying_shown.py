"""How far copies are is seen while they run: as a table in Prefect's UI, and by whoever waits in a terminal."""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from control import release_commands
from fleet.home import Home
from fleet.settings import Settings
from fleet.versions import Revision
from flows import copying_shown
from flows.copying_told import progress_file, read_progress
from flows.crossing import ORIGIN, Way, bring
from flows.house import House
from support.stack import toy_fleet, write_fleet

MIB = 1 << 20
REGION = "us-east-1"


@pytest.fixture
def slow(tmp_path: Path) -> tuple[House, Revision]:
    """A revision of 2 MiB and a line of 1 MiB a second to its region: sent and read back in some four seconds."""
    fleet = toy_fleet(("m",))
    fleet["regions"][REGION]["line_mib_per_second"] = 1
    home = Home(tmp_path / "home")
    write_fleet(home, fleet)
    house = House(Settings(home=home.root), home)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "weights.bin").write_bytes(random.Random(1).randbytes(2 * MIB))
    return house, Revision("m", "1", house.origin.put_tree(tree).digest)


def test_a_copy_is_seen_to_go_on_in_the_ui_and_in_a_terminal_and_leaves_nothing_behind(
    slow: tuple[House, Revision], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house, revision = slow
    shown: list[list[dict[str, str]]] = []
    seen_between = threading.Event()

    def table(rows: list[dict[str, str]], **_: Any) -> None:
        shown.append(rows)
        found = read_progress(house.home, "m-1").get(REGION)
        if found is not None and 0 < found.done < found.whole and not seen_between.is_set():
            release_commands._tell_copies(house, "m-1", {})
            seen_between.set()

    monkeypatch.setattr(copying_shown, "table", table)
    monkeypatch.setattr(copying_shown, "title", lambda _work: "m-1")
    monkeypatch.setattr(copying_shown, "key", lambda _work, subject: subject)
    work: Any = SimpleNamespace(house=house, desire=SimpleNamespace(release="m-1"))
    with copying_shown.watched(work, revision) as board:
        done = bring(house, Way(REGION, "aws", ORIGIN), ("m", revision.digest), house.origin, partial(board.tell, REGION))
    assert done["bytes"] == 2 * MIB
    assert seen_between.is_set()
    assert REGION in capsys.readouterr().err
    assert shown[-1] == [{"region": REGION, "read back": "100 % of 2.0 MiB, 2.0 MiB sent"}]
    assert len({str(rows) for rows in shown}) > 2
    assert not progress_file(house.home, "m-1").exists()
