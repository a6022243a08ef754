"""Terraform files in the shape that Conftest's parser gives them (tmccombs/hcl2json), so that a rule need know one shape only.

A block is a list of bodies under its labels: `resource.TYPE.NAME[0]`. What is no literal is the text `${…}`, as it stands
in the file up to spaces.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

from fleet.errors import InputError

BLOCK = "__is_block__"
MARKS = frozenset([BLOCK, "__comments__", "__inline_comments__"])
ESCAPE = re.compile(r'\\(?:([nrt"\\])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))')
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
TYPES = ("string", "number", "bool", "list", "set", "map", "object", "tuple")
HEREDOC = re.compile(r"<<(-?)[^\n]*\n(.*?)\n?[ \t]*\S+\s*\Z", re.DOTALL)


def read_terraform(text: str, subject: str) -> dict[str, Any]:
    """Return a file's blocks; raises InputError that says where it cannot be read."""
    import hcl2
    from lark.exceptions import LarkError

    try:
        raw = hcl2.loads(text if text.endswith("\n") else text + "\n")
    except LarkError as problem:
        raise _unreadable(subject, f"line {getattr(problem, 'line', '?')}: no Terraform") from problem
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise _unreadable(subject, f"cannot be read ({type(problem).__name__})") from problem
    try:
        return _body(raw)
    except (TypeError, AttributeError) as problem:
        raise _unreadable(subject, "has a block with and one without labels of the same name") from problem


def _unreadable(subject: str, why: str) -> InputError:
    return InputError(subject, why, "See what `terraform validate` says of the file.")


def _body(raw: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in raw.items():
        if key in MARKS:
            continue
        if isinstance(value, list) and value and all(_is_block(each) for each in value):
            for each in value:
                _add(out, _text(key), each)
        else:
            out[_text(key)] = _value(value)
    return out


def _is_block(value: Any) -> bool:
    """Whether a value is a block: a body, or labels that lead to one."""
    while isinstance(value, dict) and BLOCK not in value and len(value) == 1:
        value = next(iter(value.values()))
    return isinstance(value, dict) and BLOCK in value


def _add(out: dict[str, Any], key: str, block: dict[str, Any]) -> None:
    """Append a block's body to the list under its labels."""
    while BLOCK not in block:
        label, block = next(iter(block.items()))
        out, key = out.setdefault(key, {}), _text(label)
    out.setdefault(key, []).append(_body(block))


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(key): _value(each) for key, each in value.items() if key not in MARKS}
    if isinstance(value, list):
        return [_value(each) for each in value]
    return _expression(value) if isinstance(value, str) else value


def _expression(value: str) -> str:
    """Return a text, or an expression as hcl2json marks it; the names of types stand as they are."""
    if value.startswith(('"', "${", *TYPES)):
        return _text(value)
    return f"${{{value}}}"


def _text(value: str) -> str:
    """Return a text without its quotes and escapes; an expression stays as it is."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    inner = value[1:-1]
    if inner.startswith("<<") and (heredoc := HEREDOC.match(inner)):
        lines = heredoc[2] + "\n"
        return textwrap.dedent(lines) if heredoc[1] else lines
    return ESCAPE.sub(_unescaped, inner)


def _unescaped(found: re.Match[str]) -> str:
    return ESCAPES[found[1]] if found[1] else chr(int(found[2] or found[3], 16))
