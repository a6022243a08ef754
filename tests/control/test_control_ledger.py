"""`convoy ledger verify` needs no server: the ledger, the stores, and what was kept elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger
from sqlalchemy import delete, update
from typer.testing import CliRunner

from control.cli import app
from fleet.errors import InputError, LedgerBroken
from flows.anchoring import anchor
from flows.house import House
from registry.ledger import NewEvent
from registry.tables import EVENTS, HEAD, TREE_HEADS
from support.stack import house_without_servers


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    root = tmp_path / "home"
    found = house_without_servers(root)
    monkeypatch.setenv("CONVOY_HOME", str(root))
    return found


@pytest.fixture
def signed(house: House) -> House:
    """Two releases ended, so two heads were signed over four events."""
    for number in (1, 2):
        for phase in ("requested", "rejected"):
            house.ledger.append(NewEvent(f"release/toy-{number}", "phase.entered", {"phase": phase}, "test"))
        with disable_run_logger():
            anchor(house)
    return house


def verify(*options: str) -> str:
    done = CliRunner().invoke(app, ["ledger", "verify", *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def cut(house: House, size: int, heads: int) -> None:
    last = house.ledger.events(after_seq=size - 1, limit=1)[0]
    with house.ledger.database.writing() as connection:
        connection.execute(delete(EVENTS).where(EVENTS.c.seq > size))
        connection.execute(update(HEAD).values(seq=size, hash=last.hash))
        connection.execute(delete(TREE_HEADS).where(TREE_HEADS.c.number > heads))


def test_a_ledger_without_a_head_says_what_would_not_be_seen(house: House) -> None:
    house.ledger.append(NewEvent("release/toy-1", "phase.entered", {"phase": "requested"}, "test"))
    assert "No head of it was signed yet" in verify()
    assert json.loads(verify("--json")) == {"verified": True, "events": 1, "heads": 0, "signed": 0, "copies": {}, "behind": []}


def test_every_store_is_counted(signed: House) -> None:
    told = json.loads(verify("--json"))
    stores = {f"store {region}": 2 for region in signed.fleet.regions}
    assert told == {"verified": True, "events": 4, "heads": 2, "signed": 4, "copies": stores, "behind": []}
    assert "2 signed heads reach event 4" in verify()


def test_a_tail_that_was_cut_with_its_head_is_named(signed: House) -> None:
    cut(signed, 2, heads=1)
    with pytest.raises(LedgerBroken, match="ledger event 3: is missing: ledger head 2 in store"):
        verify()


def test_one_head_and_the_public_key_that_were_kept_elsewhere_are_enough(signed: House, tmp_path: Path) -> None:
    head, key = tmp_path / "head.json", tmp_path / "ledger.pub"
    head.write_bytes(signed.ledger.tree_heads()[-1].data)
    key.write_bytes((signed.home.ledger_keys / "signing.pub").read_bytes())
    assert json.loads(verify("--json", "--heads", str(head), "--key", str(key)))["events"] == 4
    # One who holds the whole home makes it all anew
    cut(signed, 2, heads=0)
    for region in signed.fleet.regions:
        for name in signed.region_store(region).notes("heads"):
            (signed.home.region_store(region) / "heads" / name).unlink()
    assert json.loads(verify("--json"))["heads"] == 0
    with pytest.raises(LedgerBroken, match="ledger event 3: is missing"):
        verify("--heads", str(head), "--key", str(key))


def test_a_folder_of_heads_is_a_copy_too(signed: House) -> None:
    first = next(iter(signed.fleet.regions))
    place = signed.home.region_store(first)
    assert json.loads(verify("--json", "--heads", str(place)))["copies"][str(place)] == 2


def test_another_key_is_not_believed(signed: House, tmp_path: Path) -> None:
    from registry.keys import ensure_keyring

    ensure_keyring(tmp_path / "other")
    with pytest.raises(LedgerBroken, match="which is not trusted"):
        verify("--key", str(tmp_path / "other"))


@pytest.mark.parametrize(("option", "problem"), [("--key", InputError), ("--heads", InputError)])
def test_what_is_not_there_is_bad_input(signed: House, tmp_path: Path, option: str, problem: type[Exception]) -> None:
    with pytest.raises(problem, match="missing"):
        verify(option, str(tmp_path / "missing"))


def test_verifying_writes_nothing_into_a_home(house: House) -> None:
    verify()
    assert not house.home.keys.exists()
