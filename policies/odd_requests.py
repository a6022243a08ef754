"""Requests that callers make by mistake, derived from what a model takes: to be answered or refused, and never to be failed on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from fleet.declared_service import Odd

MOST_COLUMNS = 8
SHOWN = 60
KIND = re.compile(rb'\s*\{"error":\s*"(?:unexpected: )?([A-Za-z_][A-Za-z0-9_.]{0,80}):')
"""How the service begins to tell of an exception (bentos/service/errors.py)."""
REAL = ("FP16", "FP32", "FP64")
UNSEEN: dict[str, tuple[Any, ...]] = {
    "BYTES": ("", "a value that nobody has ever seen", "\u0000\u202e🦓", "x" * 10_000),
    "BOOL": (True, False),
    "UINT8": (0, 2**8 - 1),
    "UINT16": (0, 2**16 - 1),
    "UINT32": (0, 2**32 - 1),
    "UINT64": (0, 2**63),
    "INT8": (-(2**7), 2**7 - 1),
    "INT16": (-(2**15), 2**15 - 1),
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**62), 2**62),
    "FP16": (-6e4, 6e4),
    "FP32": (-1e9, 1e9),
    "FP64": (-1e9, 1e9),
}
"""For each type the values at its ends, or far from any row: within what the signature allows."""


@dataclass(frozen=True, slots=True)
class OddRequest:
    """One such request: its kind, what is odd about it, and its body."""

    kind: Odd
    what: str
    body: bytes


def odd_requests(valid: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]], kinds: Sequence[Odd]) -> tuple[OddRequest, ...]:
    """Return requests of some kinds, each a valid request with one thing changed, in up to eight columns.

    `inputs` are the columns as the service describes them.
    """
    declared = {str(column["name"]): column for column in inputs}
    made = [*_malformed(valid)] if Odd.WRONG_TYPE in kinds else []
    for place, tensor in enumerate(valid["inputs"][:MOST_COLUMNS]):
        column = declared.get(str(tensor["name"]))
        if column is not None:
            made += [each for each in _of_column(valid, place, column) if each.kind in kinds]
    return tuple(made)


def trouble_with(status: int, body: bytes) -> str:
    """Return what is wrong with an answer to an odd request; nothing where it is a refusal or an answer without a NaN."""
    if 400 <= status < 500:
        return ""
    if status != 200:
        return f"was answered {failure(status, body)}"
    try:
        outputs = json.loads(body, parse_constant=_no_number)["outputs"]
        missing = [str(tensor["name"]) for tensor in outputs if str(tensor["datatype"]) in REAL and None in list(tensor["data"])]
    except ValueError as problem:
        return f"was answered with what is no JSON ({problem})"
    except (TypeError, KeyError, RecursionError):
        return "was answered with what is no answer"
    return f"was answered with a NaN in output {', '.join(missing)}" if missing else ""


def failure(status: int, body: bytes) -> str:
    """Return an answer that is none as it may be recorded: with the kind of the error, never its text, which may quote a row."""
    kind = KIND.match(body)
    return f"{status} ({kind[1].decode()})" if kind else str(status)


def _malformed(valid: Mapping[str, Any]) -> Iterator[OddRequest]:
    yield OddRequest(Odd.WRONG_TYPE, "an empty body", b"")
    yield OddRequest(Odd.WRONG_TYPE, "a body that is no JSON", b"age=18&hours=40")
    yield OddRequest(Odd.WRONG_TYPE, "a list for a body", b"[]")
    yield OddRequest(Odd.WRONG_TYPE, "a body cut off", json.dumps(valid).encode()[:-3])


def _of_column(valid: Mapping[str, Any], place: int, column: Mapping[str, Any]) -> Iterator[OddRequest]:
    name, datatype = str(column["name"]), str(column["datatype"])
    wrong, told = (17, "a number") if datatype == "BYTES" else ("seventeen", "text")
    yield OddRequest(Odd.WRONG_TYPE, f"{told} in column '{name}'", _with(valid, place, wrong))
    if datatype in REAL:
        nan = _with(valid, place, "NAN").replace(b'"NAN"', b"NaN")
        yield OddRequest(Odd.WRONG_TYPE, f"NaN, which is no JSON, in column '{name}'", nan)
    yield OddRequest(Odd.MISSING_COLUMN, f"without column '{name}'", _without(valid, place))
    yield OddRequest(Odd.MISSING_VALUE, f"null in column '{name}'", _with(valid, place, None))
    for value in UNSEEN.get(datatype, ()):
        text = json.dumps(value)
        shown = text if len(text) < SHOWN else f"{len(text)} characters"
        yield OddRequest(Odd.UNSEEN_VALUE, f"{shown} in column '{name}'", _with(valid, place, value))


def _with(valid: Mapping[str, Any], place: int, value: Any) -> bytes:
    tensors = list(valid["inputs"])
    tensors[place] = {**tensors[place], "data": [value for _ in tensors[place]["data"]]}
    return json.dumps({**valid, "inputs": tensors}).encode()


def _without(valid: Mapping[str, Any], place: int) -> bytes:
    return json.dumps({**valid, "inputs": [tensor for at, tensor in enumerate(valid["inputs"]) if at != place]}).encode()


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"it has {text}")
