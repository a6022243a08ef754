"""`convoy plan`: what is to be done, with an exit code that a script can go by, from now or from what was seen last."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from clouds.serving import State
from control import cli, plan_commands
from fleet.errors import ExitCode, InputError, OperationFailed, UnknownName
from flows.desires import model_stream
from flows.house import House
from flows.plan_stored import keep
from flows.plan_values import Kept, Left, Observations, Place, Routed, Running, SeenEdges, SeenModel, SeenRegion, Unseen
from flows.rules import rules_of
from flows.wanting import rules_digest
from registry.ledger import NewEvent
from support.stack import REGIONS, house_without_servers, toy_fleet, write_fleet

S, A = f"sha256:{1:064}", f"sha256:{2:064}"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("CONVOY_HOME", str(tmp_path))
    found = house_without_servers(tmp_path)
    stable: dict[str, Any] = {"version": "1", "digest": S, "release": "toy-1"}
    found.ledger.append(NewEvent(model_stream("toy"), "stable.set", stable, "test", model="toy"))
    return found


def saw(
    house: House, *strays: str, edge: Unseen | None = None, champion: str = "1", left: tuple[Left, ...] = (), without: str = ""
) -> Observations:
    """Have reconcile have seen a model that is as it must be, but for what is given; `without` is a region that has nothing."""
    running = tuple(Running(digest, State.READY, "127.0.0.1:1") for digest in (S, *strays))
    regions = tuple(SeenRegion(region, running, Kept(holds=True, names=S)) for region in REGIONS if region != without)
    regions += (SeenRegion(without, (), Kept(holds=False)),) if without else ()
    places = tuple(Place(S, region, "127.0.0.1:1") for region in REGIONS if region != without)
    routed = Routed(((S, 100.0),), places, rules_digest(rules_of(house.fleet, "toy")))
    seen = SeenModel("toy", regions, (SeenEdges(("edge",), edge or routed),), champion, None)
    found = Observations(house.ledger.now(), (seen,), left)
    keep(house.home, found)
    return found


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["convoy", "plan", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(str(left.value.code))


def test_nothing_to_do_is_exit_zero_and_something_is_pending(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saw(house)
    assert typed(monkeypatch, "--stored") == ExitCode.DONE
    assert "Nothing to do" in capsys.readouterr().out
    saw(house, champion="2")
    assert typed(monkeypatch, "--stored") == ExitCode.PENDING
    assert "names 2 instead of 1" in " ".join(capsys.readouterr().out.split())


def test_machines_read_what_where_and_why(house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    saw(house, A)
    assert typed(monkeypatch, "toy", "--stored", "--json") == ExitCode.PENDING
    told = json.loads(capsys.readouterr().out)
    assert [(each["verb"], each["model"], each["where"], each["what"]) for each in told["actions"]] == [
        ("retire", "toy", region, A) for region in REGIONS
    ]
    assert all("nobody wants it" in each["why"] for each in told["actions"])
    assert (told["stored"], told["unknown"]) == (True, [])


def test_what_nobody_knows_is_neither_nothing_to_do_nor_a_retirement(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saw(house, A, edge=Unseen("it does not answer"))
    assert typed(monkeypatch, "--stored", "--json") == ExitCode.FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["actions"] == []
    assert [each["where"] for each in told["unknown"]] == ["edge edge"]


def test_a_copy_that_is_not_allowed_is_told_with_its_reason(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = toy_fleet(("toy",))
    fleet["models"]["toy"] |= {"replication": {"within": ["US", "NL"]}}
    write_fleet(house.home, fleet)
    saw(house, without="southeastasia")
    assert typed(monkeypatch, "--stored", "--json") == ExitCode.FAILED
    told = json.loads(capsys.readouterr().out)
    assert (told["actions"], told["unknown"]) == ([], [])
    assert [each["where"] for each in told["forbidden"]] == ["southeastasia"]
    assert typed(monkeypatch, "--stored") == ExitCode.FAILED
    assert "not allowed toy, southeastasia: the stable revision is not copied there: must not lie in SG" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_model_that_was_declared_since_the_last_look_is_not_known(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(house.home, Observations(house.ledger.now(), ()))
    assert typed(monkeypatch, "--stored") == ExitCode.FAILED


def test_a_look_now_needs_no_stack_and_says_what_does_not_answer(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    code = plan_commands.show_plan("toy", stored=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert code is ExitCode.PENDING
    assert {each["verb"] for each in told["actions"]} == {"copy", "start", "point"}
    assert {each["of"] for each in told["unknown"]} == {"edge", "alias"}


def test_an_unknown_model_and_a_look_that_nobody_took_are_bad_input(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="model 'nobody'"):
        plan_commands.show_plan("nobody", stored=False, as_json=True)
    with pytest.raises(InputError, match="nothing was looked at"):
        plan_commands.show_plan(None, stored=True, as_json=True)
    assert typed(monkeypatch, "--stored") == ExitCode.BAD_INPUT
    assert typed(monkeypatch, "--stored", "--apply") == ExitCode.BAD_INPUT


def test_what_is_left_behind_is_told_with_its_remedy_and_is_nothing_for_reconcile_to_do(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saw(house, left=(Left("gone", REGIONS[0], "it is ready", "Declare it again."),))
    assert typed(monkeypatch, "--stored") == ExitCode.DONE
    assert f"left behind gone, {REGIONS[0]}: it is ready. Declare it again." in " ".join(capsys.readouterr().out.split())
    typed(monkeypatch, "--stored", "--json")
    assert [each["what"] for each in json.loads(capsys.readouterr().out)["left"]] == ["gone"]
    typed(monkeypatch, "toy", "--stored", "--json")
    assert json.loads(capsys.readouterr().out)["left"] == []


def failing(monkeypatch: pytest.MonkeyPatch, *looks: Observations) -> None:
    """Have reconcile fail over something else, and each look see what is given, the last one for ever."""
    seen = list(looks)

    def run_now(*_: object) -> None:
        raise OperationFailed("run calm-owl of reconcile", "FAILED: other, europe-west4: what runs there is not known")

    monkeypatch.setattr(plan_commands, "run_now", run_now)
    monkeypatch.setattr(plan_commands, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(plan_commands, "observe_models", lambda *_: seen.pop(0) if len(seen) > 1 else seen[0])


def test_a_plan_is_followed_although_reconcile_failed_over_another_model(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, saw(house, A), saw(house, A), saw(house))
    assert plan_commands.apply_plan("toy", 20, as_json=False) is ExitCode.DONE
    told = " ".join(capsys.readouterr().err.split())
    assert "reconcile failed, and goes on with what it can: " in told
    assert "europe-west4" in told


def test_a_plan_that_is_not_done_in_time_says_model_by_model_what_is_left_and_why(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, saw(house, champion="2"))
    with pytest.raises(OperationFailed, match=r"toy, champion: it names 2.*\(run calm-owl of reconcile FAILED: other"):
        plan_commands.apply_plan("toy", 0.05, as_json=True)
