"""`convoy operate`: a person's command to a release under way; and `convoy operator`: who may give one."""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from pathlib import Path

from control.printing import out, print_json, progress
from control.stack.records import record_operators
from control.views import CommandedView
from fleet.builders import TAG, Built, claim
from fleet.commands import Command
from fleet.errors import InputError
from fleet.home import Home
from fleet.operators import DEFAULT, NAME, Pass, is_pass, make_pass, new_token, presented, read_operators
from fleet.settings import settings
from flows.house import House
from flows.operating import Wish, operate, under_way

ACTOR = "convoy command"


def command_release(wish: Wish, token_file: Path | None, as_json: bool) -> None:
    """Record a command and say what happens next; raises InputError, UnknownName or Refused where nothing was done."""
    house = House.open()
    done = operate(house, wish, token_from(house.home, token_file), ACTOR)
    if as_json:
        print_json(CommandedView.of(done).model_dump(mode="json"))
    else:
        out.print(f"{done.release}: {done.order.command} {done.says}", markup=False)


def token_from(home: Home, file: Path | None) -> str:
    """Return the token that a file holds, or this home's first operator's; raises InputError."""
    if file is None:
        return read_operators(home).token_of(DEFAULT)
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(str(file), f"cannot be read ({problem})", "Give the file that holds your token.") from problem
    if not token:
        raise InputError(str(file), "is empty", "Give the file that holds your token.")
    return token


def print_pass(wish: Wish, minutes: float, token_file: Path | None) -> None:
    """Print a pass for one command to one release; without its name, to the one under way."""
    house = House.open()
    token = token_from(house.home, token_file)
    release = wish.release or under_way(house, wish).release
    wanted = Pass(release, Command(wish.command), int(time.time() + minutes * 60), uuid.uuid4().hex)
    sys.stdout.write(make_pass(token, wanted) + "\n")
    progress.print(f"Good once, for '{wish.command}' to {release}, for {minutes:g} minutes.", markup=False)


def claim_version(model: str, version: str, token_file: Path | None) -> None:
    """Tag a version with an operator's claim to have built its very files; raises UnknownName, Unreachable, Refused."""
    house = House.open()
    house.model(model)
    operators, token = read_operators(house.home), token_from(house.home, token_file)
    if is_pass(token):
        raise InputError("the token", "is a pass, and a claim is made with an operator's own token", "Give its file with --token-file.")
    name = presented(operators, token, time.time()).operator
    found = house.models.version(model, version)
    with tempfile.TemporaryDirectory(prefix="claim-", dir=house.home.root) as folder:
        digest = house.models.download(found, Path(folder) / "model").digest
    house.models.tag(found, TAG, claim(name, token, Built(model, version, digest)))
    out.print(f"Operator {name} claims to have built version {version} of {model} ({digest}).", markup=False)


def add_operator(name: str, again: bool) -> None:
    """Print the token of a new operator; `again` gives a known one another, and the old one is refused from now on."""
    if not NAME.fullmatch(name):
        raise InputError(f"operator '{name}'", "is no name", "Take 2 to 40 small letters, digits and dashes: a role, not a person.")
    home = Home.of(settings())
    tokens = dict(read_operators(home).tokens)
    if name in tokens and not again:
        raise InputError(f"operator '{name}'", "is known already", "Use --again to give it a new token.")
    tokens[name] = new_token()
    record_operators(home, tokens)
    sys.stdout.write(tokens[name] + "\n")
    progress.print("Keep it in a file that only its owner can read; it is not shown again.", markup=False)


def remove_operator(name: str) -> None:
    """Forget an operator: the token, and every pass made from it, is refused from now on."""
    home = Home.of(settings())
    operators = read_operators(home)
    operators.token_of(name)
    record_operators(home, {known: token for known, token in operators.tokens.items() if known != name})
    out.print(f"Operator {name} is removed.", markup=False)


def list_operators(as_json: bool) -> None:
    """Print the names of the operators, never a token."""
    names = sorted(read_operators(Home.of(settings())).tokens)
    if as_json:
        print_json({"operators": names})
    else:
        out.print("\n".join(names) or "There is none.", markup=False)
