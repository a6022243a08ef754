"""Decides over one document by a policy, and says by which: pure, so that a recorded decision can be given again."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError
from policies.rego.bundle import REMEDY, Bundle
from policies.rego.engine import EngineError, add_data, ask_rule, parsed, set_input, syntax_of
from policies.rego.syntax import Syntax, read_syntax

if TYPE_CHECKING:
    from regorus import Engine

PACKAGE = "main"
KEPT = 8
UNEVALUATED = "the policy could not be evaluated"


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides: a bundle without its tests, the package that is asked, and the data that the rules are told."""

    bundle: Bundle
    data: str
    package: str
    data_digest: str

    @classmethod
    def of(cls, bundle: Bundle, data: Mapping[str, Any], package: str = PACKAGE) -> Policy:
        """Return the policy of a bundle, whose tests decide nothing, and of a data document (JSON values)."""
        text = canonical(data, "policy data")
        return cls(bundle.rules, text.decode(), package, digest_of(text))


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy said of one document, and which bytes it said it of.

    `failure` says why there is no answer (empty: there is one); without an answer nothing is allowed. `policy_digest`
    names the rules, `data_digest` what they were told, `input_digest` the document, each as canonical bytes.
    """

    allowed: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    failure: str
    package: str
    policy_digest: str
    data_digest: str
    input_digest: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy ready to be asked: an engine of this thread, the rules that refuse and those that warn."""

    engine: Engine
    refusing: tuple[str, ...]
    warning: tuple[str, ...]


def decide(policy: Policy, document: Any) -> Decision:
    """Return what a policy says of a JSON document.

    A policy that does not parse, that calls what is forbidden, that has no such package or no rule that could refuse,
    that fails while it is evaluated or gives messages that are none refuses, with `failure`. Raises InputError for a
    document that is no JSON.
    """
    text = canonical(document, "policy input")
    try:
        loaded = load(policy)
        set_input(loaded.engine, text.decode())
        reasons = _messages(loaded, policy.package, loaded.refusing)
        warnings = _messages(loaded, policy.package, loaded.warning)
        failure = ""
    except InputError as problem:
        reasons, warnings, failure = (), (), f"{UNEVALUATED}: {problem}"
    except EngineError as problem:
        reasons, warnings, failure = (), (), f"{UNEVALUATED}: {problem}"
    allowed = not reasons and not failure
    digests = (policy.bundle.digest, policy.data_digest, digest_of(text))
    return Decision(allowed, reasons, warnings, failure, policy.package, *digests)


def load(policy: Policy) -> Loaded:
    """Return a policy ready to be asked, from this thread's few if it was asked before.

    Raises InputError that lists what is forbidden in it or missing from it, with file and line.
    """
    kept = _kept()
    key = (policy.bundle.digest, policy.data_digest, policy.package)
    if key not in kept:
        kept[key] = _loaded(policy)
        while len(kept) > KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def look_through(bundle: Bundle) -> tuple[Engine, Syntax]:
    """Return a bundle's engine and syntax; raises InputError for what does not parse or may not be called."""
    try:
        engine = parsed(bundle)
        syntax = read_syntax(syntax_of(engine), dict(bundle.files))
    except EngineError as problem:
        raise InputError("policy", f"does not parse: {problem}", REMEDY) from problem
    problems = syntax.problems()
    if problems:
        raise InputError("policy", "; ".join(problems), "Take what must be known from input or data; nothing was decided.")
    return engine, syntax


def canonical(value: Any, subject: str) -> bytes:
    """Return the canonical bytes of a JSON value; raises InputError for anything else."""
    from rfc8785 import CanonicalizationError

    try:
        return canonical_json(value)
    except (CanonicalizationError, RecursionError, UnicodeEncodeError) as problem:
        why = " ".join(str(problem).split()) or type(problem).__name__
        raise InputError(subject, f"is no JSON that has canonical bytes ({why})", "Write large or exact numbers as strings.") from problem


_local = threading.local()


def _kept() -> OrderedDict[tuple[str, str, str], Loaded]:
    """Return what this thread has loaded: an engine may not leave its thread."""
    if not hasattr(_local, "kept"):
        _local.kept = OrderedDict()
    kept: OrderedDict[tuple[str, str, str], Loaded] = _local.kept
    return kept


def _loaded(policy: Policy) -> Loaded:
    engine, syntax = look_through(policy.bundle)
    _check(policy, syntax)
    add_data(engine, policy.data)
    rules = syntax.deciding(policy.package)
    return Loaded(engine, tuple(rule for rule in rules if not _warns(rule)), tuple(rule for rule in rules if _warns(rule)))


def _check(policy: Policy, syntax: Syntax) -> None:
    """Raise InputError where the package that is asked is not there, or could refuse nothing, or data hides it."""
    package = f"policy package {policy.package}"
    if policy.package not in syntax.packages:
        raise InputError(package, f"is not in the bundle (there are {', '.join(sorted(syntax.packages))})", REMEDY)
    if all(_warns(rule) for rule in syntax.deciding(policy.package)):
        raise InputError(package, "has no rule that could refuse (deny, violation, deny_…)", REMEDY)
    problems = syntax.ill_formed(policy.package)
    if problems:
        raise InputError(package, "; ".join(problems), REMEDY)
    hidden = {package.partition(".")[0] for package in syntax.packages} & set(json.loads(policy.data))
    if hidden:
        raise InputError("policy data", f"has the key {', '.join(sorted(hidden))}, which is a package of rules", "Name the key otherwise.")


def _warns(rule: str) -> bool:
    return rule == "warn" or rule.startswith("warn_")


def _messages(loaded: Loaded, package: str, rules: tuple[str, ...]) -> tuple[str, ...]:
    """Return the messages of some rules, sorted; raises EngineError where a rule fails or gives something else."""
    found: set[str] = set()
    for rule in rules:
        answer = ask_rule(loaded.engine, f"data.{package}.{rule}")
        if not isinstance(answer, list):
            raise EngineError(f"{package}.{rule} is no set of messages but {json.dumps(answer)[:100]}")
        found |= {_message(each, f"{package}.{rule}") for each in answer}
    return tuple(sorted(found))


def _message(said: Any, rule: str) -> str:
    """Return a message: a text, or as Conftest allows, an object whose `msg` is one."""
    text = said.get("msg") if isinstance(said, dict) else said
    if not isinstance(text, str) or not text.strip():
        raise EngineError(f"{rule} gave a message that is no text: {json.dumps(said)[:100]}")
    return text
