"""Who may command releases: named operators, each with a token of their own, and passes made from it for one command.

What is typed into a form of Prefect's UI stands in Prefect's database in clear. So an operator's own token never goes
there: a pass does, which is good for one command to one release, once, for some minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.canonical import canonical_json
from fleet.commands import Command
from fleet.errors import InputError, Refused
from fleet.home import Home

DEFAULT = "operator"
"""The operator that `convoy up` makes, and whose token the commands use where none is given."""
PASS = "convoy-pass"  # noqa: S105 - how a pass begins
LONGEST_PASS_SECONDS = 3600
NAME = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Operators:
    """The operators of one installation: their tokens by name, never printed."""

    tokens: Mapping[str, str] = field(repr=False)

    def name_of(self, token: str) -> str | None:
        """Return whose token this is, None when it is nobody's; every token is looked at, so the time tells nothing."""
        found = [name for name, known in self.tokens.items() if hmac.compare_digest(known.encode(), token.encode())]
        return found[0] if found else None

    def token_of(self, name: str) -> str:
        """Return an operator's token; raises InputError."""
        if name not in self.tokens:
            known = ", ".join(sorted(self.tokens)) or "nobody"
            raise InputError(f"operator '{name}'", f"is not known here (known: {known})", "Give a file with --token-file.")
        return self.tokens[name]


@dataclass(frozen=True, slots=True)
class Pass:
    """Good for one command to one release until `expires` (Unix time); `nonce` makes it good once."""

    release: str
    command: Command
    expires: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Presented:
    """Who presented a credential, and the pass, if it was one."""

    operator: str
    pass_: Pass | None = None


def read_operators(home: Home) -> Operators:
    """Return the operators of a home, read anew, so that one who was removed is refused at once; raises InputError."""
    file = home.operators_file
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(str(file), "there are no operators in this home", "Run `convoy up`, which makes the first one.") from None
    except (OSError, ValueError) as problem:
        raise InputError(str(file), f"cannot be read ({problem})", "Restore it, or delete it and run `convoy up`.") from problem
    if not isinstance(document, dict) or not all(isinstance(token, str) and token for token in document.values()):
        raise InputError(str(file), "is not a mapping of names to tokens", "Restore it, or delete it and run `convoy up`.")
    return Operators(document)


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(32)


def is_pass(text: str) -> bool:
    """Whether a text claims to be a pass."""
    return text.startswith(f"{PASS}.")


def make_pass(token: str, wanted: Pass) -> str:
    """Return a pass as text, made from an operator's token and good for nothing else."""
    told = {"release": wanted.release, "command": wanted.command.value, "expires": wanted.expires, "nonce": wanted.nonce}
    body = base64.urlsafe_b64encode(canonical_json(told)).decode().rstrip("=")
    return f"{PASS}.{body}.{_seal(token, body)}"


def presented(operators: Operators, text: str, now: float) -> Presented:
    """Return who presents a token or a pass; raises Refused for one that is nobody's, forged or has run out. `now` is Unix time."""
    if not is_pass(text):
        name = operators.name_of(text)
        if name is None:
            raise Refused("this command", "the operator's token is missing or wrong", "Send the token of an operator, or a fresh pass.")
        return Presented(name)
    body, _, seal = text.removeprefix(f"{PASS}.").partition(".")
    makers = [name for name, token in operators.tokens.items() if hmac.compare_digest(_seal(token, body).encode(), seal.encode())]
    if not makers:
        raise Refused("this pass", "is not one of an operator's", "Make one with `convoy operator pass`.")
    found = _opened(body)
    if not now < found.expires <= now + LONGEST_PASS_SECONDS + 60:
        raise Refused("this pass", "has run out", "Make a fresh one with `convoy operator pass`.")
    return Presented(makers[0], found)


def _opened(body: str) -> Pass:
    """Return what a pass says; only for one whose seal was checked."""
    told = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return Pass(str(told["release"]), Command(told["command"]), int(told["expires"]), str(told["nonce"]))


def _seal(token: str, body: str) -> str:
    sealed = hmac.new(token.encode(), f"{PASS}.{body}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")
