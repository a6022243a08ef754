"""The Rego engine, in process: regorus, as gordon-to-regorus packages it for Python (docs/decisions/0006-rego.md).

An engine may only be used by the thread that made it, and holds Python's lock while it works: a policy that is not ours
is therefore parsed and asked in a worker alone (policies.rego.asking).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regorus import Engine

    from policies.rego.bundle import Bundle

MOST_COLUMNS = 1_000
MOST_LINES = 20_000
MOST_BYTES = 1 << 20


class EngineError(Exception):
    """The engine could not parse or evaluate; the text is its own, in one line."""


def parsed(bundle: Bundle) -> Engine:
    """Return an engine with a bundle's files; raises EngineError where one of them does not parse."""
    import regorus

    engine = regorus.Engine()
    engine.set_gather_prints(True)
    engine.set_policy_length_config(max_col=MOST_COLUMNS, max_lines=MOST_LINES, max_file_bytes=MOST_BYTES)
    for path, text in bundle.files:
        try:
            engine.add_policy(path, text)
        except BaseException as problem:
            raise told(problem) from problem
    return engine


def add_data(engine: Engine, data: str) -> None:
    """Tell an engine the data (JSON); raises EngineError."""
    try:
        engine.add_data_json(data)
    except BaseException as problem:
        raise told(problem) from problem


def set_input(engine: Engine, document: str) -> None:
    """Hand an engine the document (JSON); raises EngineError."""
    try:
        engine.set_input_json(document)
    except BaseException as problem:
        raise told(problem) from problem


def ask_rule(engine: Engine, rule: str) -> Any:
    """Return the value of a rule, such as data.main.deny; what is undefined is a text. Raises EngineError."""
    try:
        return json.loads(engine.eval_rule_as_json(rule))
    except BaseException as problem:
        raise told(problem) from problem


def told(problem: BaseException) -> EngineError:
    """Return what an engine raised in one line, without its stack; what is not the engine's is raised on.

    A panic of the engine is no Exception for Python (pyo3_runtime.PanicException).
    """
    if not isinstance(problem, Exception) and type(problem).__name__ != "PanicException":
        raise problem
    lines = [line.strip() for line in str(problem).partition("Stack backtrace")[0].splitlines()]
    place = next((line.removeprefix("-->").strip() for line in lines if line.startswith("-->")), "")
    said = " ".join(line.removeprefix("error:").strip() for line in lines if line and not line.startswith("-->") and not _drawn(line))
    return EngineError(f"{place}: {said}" if place else said or type(problem).__name__)


def syntax_of(engine: Engine) -> list[dict[str, Any]]:
    """Return the syntax tree of every file, as the engine itself parsed it."""
    try:
        found = json.loads(engine.get_ast_as_json())
    except BaseException as problem:
        raise told(problem) from problem
    return [{"path": each["source"]["file"], **each["ast"]} for each in found]


def _drawn(line: str) -> bool:
    """Whether a line of an error belongs to the excerpt of the source that the engine draws."""
    number, bar, _ = line.partition("|")
    return bool(bar) and number.strip().isdigit() | (not number.strip())
