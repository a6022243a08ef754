"""Who may command: a token is somebody's, a pass is good for one command of one release, for a while."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleet.commands import Command
from fleet.errors import InputError, Refused
from fleet.home import Home
from fleet.operators import Operators, Pass, is_pass, make_pass, new_token, presented, read_operators

NOW = 1_800_000_000.0
ALICE, BOB = new_token(), new_token()
OPERATORS = Operators({"night-shift": ALICE, "day-shift": BOB})
PASS = Pass("toy-3", Command.ABORT, int(NOW) + 600, "0123456789abcdef")


def test_a_token_says_who_it_is() -> None:
    assert [presented(OPERATORS, token, NOW).operator for token in (ALICE, BOB)] == ["night-shift", "day-shift"]


NOBODYS = {
    "none": "",
    "a guess": "guess",
    "cut": ALICE[:-1],
    "longer": ALICE + "x",
    "half a pass": "convoy-pass.",
    "no pass": "convoy-pass.e30.x",
}


@pytest.mark.parametrize("token", list(NOBODYS.values()), ids=list(NOBODYS))
def test_what_is_nobodys_is_refused(token: str) -> None:
    with pytest.raises(Refused):
        presented(OPERATORS, token, NOW)


def test_a_pass_says_who_made_it_and_what_it_is_good_for() -> None:
    made = make_pass(BOB, PASS)
    assert is_pass(made)
    found = presented(OPERATORS, made, NOW)
    assert (found.operator, found.pass_) == ("day-shift", PASS)
    assert BOB not in made


@pytest.mark.parametrize(
    "change", [{"release": "toy-4"}, {"command": Command.PROMOTE}, {"expires": PASS.expires + 60}, {"nonce": "another"}]
)
def test_a_pass_that_was_changed_is_refused(change: dict[str, object]) -> None:
    seal = make_pass(BOB, PASS).rpartition(".")[2]
    forged = make_pass("guess", replace(PASS, **change)).rpartition(".")[0] + "." + seal  # type: ignore[arg-type]
    with pytest.raises(Refused, match="not one of an operator's"):
        presented(OPERATORS, forged, NOW)


def test_a_pass_runs_out_and_is_never_good_for_long() -> None:
    with pytest.raises(Refused, match="run out"):
        presented(OPERATORS, make_pass(BOB, PASS), PASS.expires)
    with pytest.raises(Refused, match="run out"):
        presented(OPERATORS, make_pass(BOB, replace(PASS, expires=int(NOW) + 86_400)), NOW)


def test_a_pass_of_one_who_was_removed_is_refused() -> None:
    with pytest.raises(Refused):
        presented(Operators({"night-shift": ALICE}), make_pass(BOB, PASS), NOW)


def test_tokens_are_not_shown() -> None:
    assert ALICE not in repr(OPERATORS)


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": ""}', "{"])
def test_a_file_that_is_not_operators_is_told(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.operators_file.write_text(text)
    with pytest.raises(InputError, match=r"operators\.json"):
        read_operators(home)


def test_a_home_without_operators_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="convoy up"):
        read_operators(Home(tmp_path))
