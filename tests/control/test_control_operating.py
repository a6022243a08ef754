"""A person's commands: one function behind every door, one event for one command, and nothing for what is wrong with it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prefect.logging import disable_run_logger
from pydantic import SecretStr

from control import cli, operate_commands
from control.api import make_app
from control.views import release_views
from fleet.commands import LONGEST_REASON, MOST_SECONDS, Command
from fleet.errors import ConvoyError, ExitCode, InputError, Refused, UnknownName
from fleet.operators import DEFAULT, Pass, make_pass, read_operators
from fleet.phases import ReleasePhase
from flows import effects, form
from flows import operate as operate_flow
from flows.desires import Desire, observe_candidate, open_rollback
from flows.house import House
from flows.journal import Journal
from flows.operating import Commanded, Wish, operate
from flows.orders import COMMANDED, fold
from support.stack import house_without_servers, toy_fleet, write_fleet

P = ReleasePhase
DIGEST = "sha256:" + "2" * 64
STORY = (P.VALIDATING, P.PACKAGING, P.REPLICATING, P.DEPLOYING, P.AWAITING_APPROVAL, P.CANARY, P.PROMOTING, P.PROMOTED)
WISH = Wish("toy", "pause", "it looks odd")


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("CONVOY_HOME", str(tmp_path))
    return house_without_servers(tmp_path)


def token(house: House) -> str:
    return read_operators(house.home).token_of(DEFAULT)


def wanted(house: House, version: str = "2") -> Journal:
    desire = observe_candidate(house.ledger, "toy", version, "test")
    assert isinstance(desire, Desire)
    return Journal(house.ledger, desire, 0, "test")


def come_to(house: House, phase: ReleasePhase, version: str = "2") -> Journal:
    """Return a release that has come so far."""
    journal = wanted(house, version)
    for each in STORY if phase is not P.REQUESTED else ():
        if each is P.AWAITING_APPROVAL and phase is not each:
            continue
        journal.enter(each)
        if each is P.PACKAGING:
            journal.effect(effects.PACKAGE, lambda: {"digest": DIGEST, "files": 1, "bytes": 1})
        if each is phase:
            break
    return journal


def given(house: House, wish: Wish = WISH, door: str = "a test") -> Commanded:
    return operate(house, wish, token(house), door)


def commanded(house: House) -> list[tuple[str, Any]]:
    events = house.ledger.events()
    return [(event.actor, event.payload) for event in events if event.type == COMMANDED]


def typed(*words: str) -> int:
    """Type a command and return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["convoy", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0)


@pytest.fixture
def api(house: House) -> TestClient:
    return TestClient(make_app(house))


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def test_a_command_is_one_event_that_says_who_what_why_and_through_which_door(house: House) -> None:
    come_to(house, P.CANARY)
    done = given(house)
    assert (done.release, done.again) == ("toy-1", False)
    told = {"command": "pause", "operator": DEFAULT, "reason": "it looks odd", "door": "a test"}
    assert commanded(house) == [(f"operator {DEFAULT}", told)]
    assert token(house) not in json.dumps([event.payload for event in house.ledger.events()], default=str)
    house.ledger.verify()


def test_the_three_doors_write_the_same_event(house: House, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = come_to(house, P.CANARY)
    monkeypatch.setattr(House, "open", lambda: house)
    wish = {"model": "toy", "command": "extend", "reason": "rush hour", "seconds": 60}
    assert typed("operate", "toy", "extend", "--reason", "rush hour", "--seconds", "60") == 0
    assert api.post("/commands", json=wish, headers=bearer(token(house))).status_code == 202
    made = make_pass(token(house), Pass("toy-1", Command.EXTEND, int(time.time()) + 60, "a-nonce-of-a-pass"))
    with disable_run_logger():
        assert "toy-1: extend recorded" in operate_flow.operate.fn("toy", Command.EXTEND, "rush hour", SecretStr(made), 60)
    assert {tuple(sorted((each | {"door": ""}).items())) for _, each in commanded(house)} == {
        (("command", "extend"), ("door", ""), ("operator", DEFAULT), ("reason", "rush hour"), ("seconds", 60))
    }
    assert [each["door"] for _, each in commanded(house)] == ["convoy command", "control API", "operate flow"]
    assert fold(journal.events()).extended == 180


WRONG: list[tuple[dict[str, Any], type[ConvoyError], str]] = [
    ({"command": "stop"}, InputError, "Known: pause, resume, abort, promote, extend, approve, deny, revoke"),
    ({"reason": ""}, InputError, "the reason"),
    ({"reason": " \n\t"}, InputError, "the reason"),
    ({"reason": "x" * (LONGEST_REASON + 1)}, InputError, "501 characters"),
    ({"command": "extend"}, InputError, "seconds"),
    ({"command": "extend", "seconds": 0}, InputError, "from 1 to"),
    ({"command": "extend", "seconds": -5}, InputError, "from 1 to"),
    ({"command": "extend", "seconds": 86_400}, InputError, "from 1 to"),
    ({"command": "extend", "seconds": MOST_SECONDS + 1}, InputError, "from 1 to"),
    ({"seconds": 60}, InputError, "seconds"),
    ({"digest": DIGEST}, InputError, "digest"),
    ({"id": "short"}, InputError, "id"),
    ({"id": "with spaces in it"}, InputError, "id"),
    ({"model": "stranger"}, UnknownName, "stranger"),
    ({"release": "toy-9"}, UnknownName, "toy-9"),
    ({"command": "resume"}, Refused, "is not paused"),
    ({"command": "approve"}, Refused, "is canary, where 'approve' means nothing"),
    ({"command": "deny"}, Refused, "Commands now: pause, resume, abort, promote, extend"),
    ({"command": "approve", "digest": "sha256:1"}, Refused, "not of sha256:1"),
]


@pytest.mark.parametrize(("change", "kind", "says"), WRONG, ids=lambda found: str(found)[:50])
def test_wrong_input_is_refused_with_exit_code_2_and_leaves_the_ledger_as_it_was(
    house: House, change: dict[str, Any], kind: type[ConvoyError], says: str
) -> None:
    come_to(house, P.CANARY)
    before = house.ledger.head()
    with pytest.raises(kind) as caught:
        given(house, replace(WISH, **change))
    assert says in str(caught.value)
    assert (caught.value.exit_code, 400 <= caught.value.http_status < 500) == (ExitCode.BAD_INPUT, True)
    assert house.ledger.head() == before


@pytest.mark.parametrize(
    "wrong", ["", "guess", "api_token", "forged pass", "old pass", "pass for another release", "pass for another command"]
)
def test_a_wrong_token_is_refused_and_leaves_the_ledger_as_it_was(house: House, wrong: str) -> None:
    come_to(house, P.CANARY)
    good, later = token(house), int(time.time()) + 60
    tokens = {
        "api_token": house.credentials.api_token,
        "forged pass": make_pass("guess", Pass("toy-1", Command.PAUSE, later, "n" * 16)),
        "old pass": make_pass(good, Pass("toy-1", Command.PAUSE, later - 120, "n" * 16)),
        "pass for another release": make_pass(good, Pass("toy-2", Command.PAUSE, later, "n" * 16)),
        "pass for another command": make_pass(good, Pass("toy-1", Command.ABORT, later, "n" * 16)),
    }
    before = house.ledger.head()
    with pytest.raises(Refused):
        operate(house, WISH, tokens.get(wrong, wrong), "a test")
    assert house.ledger.head() == before


def test_a_token_in_the_reason_is_refused_for_what_is_recorded_stays(house: House) -> None:
    come_to(house, P.CANARY)
    before = house.ledger.head()
    with pytest.raises(Refused, match="holds an operator's token"):
        given(house, replace(WISH, reason=f"my token is {token(house)}"))
    assert house.ledger.head() == before


@pytest.mark.parametrize(
    ("phase", "fitting"),
    [
        (P.REQUESTED, {"abort"}),
        (P.DEPLOYING, {"abort"}),
        (P.AWAITING_APPROVAL, {"abort", "approve", "deny"}),
        (P.CANARY, {"pause", "abort", "promote", "extend"}),
        (P.PROMOTING, set()),
        (P.PROMOTED, set()),
    ],
)
def test_a_command_fits_its_phase_or_changes_nothing(house: House, phase: ReleasePhase, fitting: set[str]) -> None:
    journal = come_to(house, phase)
    taken = set()
    for command in Command:
        before = house.ledger.head()
        try:
            given(house, Wish("toy", command.value, "why not", 60 if command is Command.EXTEND else None, release="toy-1"))
            taken.add(command.value)
        except Refused:
            assert house.ledger.head() == before
            continue
        house = house_again(house, journal)
    assert taken == fitting


def house_again(house: House, journal: Journal) -> House:
    """Return another house whose release has come as far, without the command that was taken."""
    other = house_without_servers(house.home.root / "again")
    come_to(other, journal.phase)
    return other


def test_a_release_that_has_ended_takes_no_command(house: House) -> None:
    come_to(house, P.PROMOTED)
    with pytest.raises(Refused, match="no release of it is under way"):
        given(house)
    with pytest.raises(Refused, match="has ended: promoted"):
        given(house, replace(WISH, command="abort", release="toy-1"))


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (("abort",), "pause", "was aborted already, by operator operator: first"),
        (("pause",), "pause", "is paused already, by operator operator: first"),
        (("promote",), "promote", "is to be promoted already"),
        (("pause", "resume"), "resume", "is not paused"),
    ],
)
def test_a_command_that_leaves_nothing_to_do_says_who_was_there_first(house: House, first: tuple[str, ...], then: str, says: str) -> None:
    come_to(house, P.CANARY)
    for command in first:
        given(house, Wish("toy", command, "first"))
    before = house.ledger.head()
    with pytest.raises(Refused, match=says):
        given(house, Wish("toy", then, "second"))
    assert house.ledger.head() == before


def test_the_same_id_is_one_command_also_when_the_release_has_ended_meanwhile(house: House) -> None:
    journal = come_to(house, P.CANARY)
    wish = replace(WISH, id="a-command-of-mine")
    first = given(house, wish)
    again = given(house, wish, door="another door")
    for phase in (P.PROMOTING, P.PROMOTED):
        journal.enter(phase)
    late = given(house, wish)
    assert (first.again, again.again, late.again) == (False, True, True)
    assert first.order == again.order == late.order
    assert len(commanded(house)) == 1


@pytest.mark.parametrize("change", [{"reason": "another one"}, {"command": "abort"}, {"release": "toy-2"}])
def test_an_id_that_was_used_for_another_command_is_refused(house: House, change: dict[str, str]) -> None:
    come_to(house, P.CANARY)
    wish = replace(WISH, id="a-command-of-mine")
    given(house, wish)
    before = house.ledger.head()
    with pytest.raises(Refused, match="was another one"):
        given(house, replace(wish, **change))
    assert house.ledger.head() == before


def test_a_pass_is_good_once(house: House) -> None:
    come_to(house, P.CANARY)
    made = make_pass(token(house), Pass("toy-1", Command.PAUSE, int(time.time()) + 60, "a-nonce-of-a-pass"))
    assert operate(house, WISH, made, "a test").order.id == "a-nonce-of-a-pass"
    given(house, Wish("toy", "resume", "as you were"))
    assert operate(house, WISH, made, "a test").again
    with pytest.raises(Refused):
        operate(house, replace(WISH, reason="another one"), made, "a test")
    assert [told["command"] for _, told in commanded(house)] == ["pause", "resume"]


def test_a_release_that_moves_on_meanwhile_is_looked_at_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = come_to(house, P.CANARY)
    append, moves = house.ledger.append, [P.PROMOTING]

    def overtaken(*arguments: Any, **options: Any) -> Any:
        if moves:
            journal.enter(moves.pop())
        return append(*arguments, **options)

    monkeypatch.setattr(house.ledger, "append", overtaken)
    with pytest.raises(Refused, match="is promoting"):
        given(house)
    assert commanded(house) == []


def test_of_two_releases_under_way_one_is_to_be_named(house: House) -> None:
    come_to(house, P.CANARY)
    wanted(house, "3")
    with pytest.raises(InputError, match=r"toy-1 \(canary\), toy-2 \(requested\)"):
        given(house)
    assert given(house, replace(WISH, release="toy-1")).release == "toy-1"


def test_an_approval_names_the_revision_and_comes_in_time(house: House) -> None:
    fleet = toy_fleet(("toy",))
    fleet["models"]["toy"] = fleet["models"]["toy"] | {"approval": {"required": True, "within_seconds": 0.001}}
    come_to(house, P.AWAITING_APPROVAL)
    approve = Wish("toy", "approve", "looks good")
    with pytest.raises(Refused, match="not of sha256:1"):
        given(house, replace(approve, digest="sha256:1"))
    write_fleet(house.home, fleet)
    with pytest.raises(Refused, match="could be approved until"):
        given(House(house.settings, house.home), approve)
    done = given(house, replace(approve, digest=DIGEST))
    assert done.order.digest == DIGEST
    with pytest.raises(Refused, match="was approved by operator already"):
        given(house, approve)
    assert given(house, replace(approve, command="deny")).order.digest == DIGEST, "a no after a yes is heard"
    with pytest.raises(Refused, match="was denied already"):
        given(house, approve)


def test_a_release_that_nobody_holds_is_woken_and_otherwise_left_to_its_tick(house: House) -> None:
    come_to(house, P.CANARY)
    assert "Reconcile starts the release within a minute" in given(house).says
    house.leases.take("toy", "a release flow", 60)
    assert given(house, Wish("toy", "resume", "as you were")).says == "recorded; the release obeys at its next tick"


def test_a_rollback_under_way_can_be_aborted(house: House) -> None:
    open_rollback(house.ledger, "toy", "1", lambda: "2", "test")
    assert given(house, Wish("toy", "abort", "the wrong model")).release == "toy-1"


def test_the_api_asks_for_an_operators_token_and_answers_4xx_to_what_is_wrong(house: House, api: TestClient) -> None:
    come_to(house, P.CANARY)
    before = house.ledger.head()
    wish = {"model": "toy", "command": "pause", "reason": "it looks odd"}
    for headers in ({}, bearer("guess"), bearer(house.credentials.api_token)):
        assert api.post("/commands", json=wish, headers=headers).status_code == 403
    good = bearer(token(house))
    changes: dict[str, Any]
    for changes, status in (
        ({"command": "stop"}, 422),
        ({"reason": ""}, 422),
        ({"operator": "somebody else"}, 422),
        ({"model": "stranger"}, 404),
        ({"command": "approve"}, 403),
        ({"command": "extend", "seconds": 86_400}, 422),
    ):
        assert api.post("/commands", json=wish | changes, headers=good).status_code == status
    assert house.ledger.head() == before
    done = api.post("/commands", json=wish | {"id": "sent-by-a-script"}, headers=good)
    assert (done.status_code, done.json()["order"]["operator"], done.json()["again"]) == (202, DEFAULT, False)
    assert api.post("/commands", json=wish | {"id": "sent-by-a-script"}, headers=good).json()["again"] is True
    assert len(commanded(house)) == 1


def test_the_command_line_says_what_happened_by_its_exit_code(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    come_to(house, P.CANARY)
    assert typed("operate", "toy", "pause", "--reason", "it looks odd", "--json") == 0
    assert json.loads(capsys.readouterr().out)["order"]["reason"] == "it looks odd"
    before = house.ledger.head()
    for words in (
        ("pause", "--reason", "twice"),
        ("pause", "--reason", ""),
        ("stop", "--reason", "unknown"),
        ("pause",),
        ("extend", "--reason", "too long", "--seconds", "86400"),
        ("abort", "--reason", "why", "--release", "toy-7"),
        ("abort", "--reason", "why", "--token-file", "/nowhere"),
    ):
        assert typed("operate", "toy", *words) == 2
    assert house.ledger.head() == before


def test_operators_are_made_named_and_removed_and_only_their_owner_reads_the_file(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    come_to(house, P.CANARY)
    assert typed("operator", "add", "night-shift") == 0
    made = capsys.readouterr().out.strip()
    assert house.home.operators_file.stat().st_mode & 0o777 == 0o600
    file = tmp_path / "token"
    file.write_text(made + "\n")
    assert typed("operate", "toy", "pause", "--reason", "night", "--token-file", str(file)) == 0
    assert commanded(house)[-1][1]["operator"] == "night-shift"
    assert typed("operator", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["operators"] == ["night-shift", DEFAULT]
    assert typed("operator", "add", "night-shift") == 2
    assert typed("operator", "add", "Alice Doe") == 2
    assert typed("operator", "add", "night-shift", "--again") == 0
    assert read_operators(house.home).token_of("night-shift") != made
    assert typed("operator", "remove", "night-shift") == 0
    assert typed("operate", "toy", "resume", "--reason", "day", "--token-file", str(file)) == 2
    assert typed("operator", "remove", "night-shift") == 2


def test_a_pass_is_printed_for_the_release_under_way(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    come_to(house, P.CANARY)
    assert typed("operator", "pass", "toy", "abort") == 0
    made = capsys.readouterr().out.strip()
    assert operate(house, Wish("toy", "abort", "why not"), made, "a test").order.command is Command.ABORT
    assert typed("operator", "pass", "toy", "abort", "--minutes", "600") == 2


def test_an_operators_own_token_in_a_form_is_refused_and_said_to_be_stored(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    come_to(house, P.CANARY)
    monkeypatch.setattr(House, "open", lambda: house)
    before = house.ledger.head()
    with disable_run_logger():
        with pytest.raises(Refused, match="stored in clear") as caught:
            operate_flow.operate.fn("toy", Command.PAUSE, "it looks odd", SecretStr(token(house)))
        with pytest.raises(Refused, match="is no pass"):
            form.pass_of(house, SecretStr("guess"))
    assert token(house) not in str(caught.value)
    assert house.ledger.head() == before


def test_a_view_shows_who_paused_and_what_is_not_obeyed_yet(house: House) -> None:
    journal = come_to(house, P.CANARY)
    given(house)
    given(house, Wish("toy", "extend", "rush hour", 60))
    (view,) = release_views(house.ledger, "toy")
    assert view.paused is not None
    assert (view.paused.operator, view.paused.reason) == (DEFAULT, "it looks odd")
    assert [order.command for order in view.pending] == ["pause", "extend"]
    for phase in (P.PROMOTING, P.PROMOTED):
        journal.enter(phase)
    (ended,) = release_views(house.ledger, "toy")
    assert (ended.paused, ended.pending) == (None, ())


def test_the_actor_of_the_command_line_names_no_person() -> None:
    assert operate_commands.ACTOR == "convoy command"
