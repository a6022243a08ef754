"""The one reader of YAML that somebody else wrote: plain values, bounded, read in one way only, and never more than refused.

The author of a model writes its `MLmodel`, `conda.yaml` and more, and may write them to break who reads them: constructors
of the parser raise whatever Python raises, nesting and aliases have no end, a large text holds the interpreter for
seconds. MLflow reads the same files with YAML 1.1, to which U+0085, U+2028 and U+2029 end a line and, with it, a comment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 10
"""Of a text, where its reader names no other bound: about a second of the parser's time."""
MOST_VALUES = 200_000
"""Of a document, aliases counted as what they stand for."""
_LINE_ENDS = "\x85\u2028\u2029"
_LONGEST = 300


class Unreadable(Exception):
    """A text is no YAML of plain values; the message says why, in words that follow the text's name."""


def read_yaml(text: bytes | str, most_bytes: int = MOST_BYTES) -> Any:
    """Return the one document of a text; raises Unreadable."""
    return _parsed(_plain_text(text, most_bytes), lambda reader, plain: reader.load(plain))


def read_yaml_documents(text: bytes | str, most_bytes: int = MOST_BYTES) -> list[Any]:
    """Return every document of a text; raises Unreadable."""
    found: list[Any] = _parsed(_plain_text(text, most_bytes), lambda reader, plain: list(reader.load_all(plain)))
    return found


def read_yaml_file(file: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Return the one document of a file, of which no more is read than the bound; raises Unreadable."""
    try:
        if file.exists() and not file.is_file():
            raise Unreadable("is no file")
        with file.open("rb") as opened:
            text = opened.read(most_bytes + 1)
    except (OSError, ValueError) as problem:
        raise Unreadable(f"cannot be read ({type(problem).__name__})") from problem
    return read_yaml(text, most_bytes)


def _plain_text(text: bytes | str, most_bytes: int) -> str:
    if len(text) > most_bytes:
        raise Unreadable(f"is larger than {most_bytes >> 10} KiB")
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Unreadable("is no text in UTF-8") from problem
    if any(sign in plain for sign in _LINE_ENDS):
        raise Unreadable("has a sign (U+0085, U+2028 or U+2029) that ends a line for some readers of YAML and not for others")
    return plain


def _parsed(text: str, parse: Callable[[Any, str], Any]) -> Any:
    from ruamel.yaml import YAML

    try:
        found = parse(YAML(typ="safe", pure=True), text)
        if _size(found, {}) > MOST_VALUES:
            raise Unreadable(f"holds more than {MOST_VALUES} values, aliases counted as what they stand for")
    except Unreadable:
        raise
    except Exception as problem:  # whatever a constructor raises
        raise Unreadable(_told(problem)) from problem
    return found


def _size(value: Any, sizes: dict[int, int]) -> int:
    """Return how many values a document holds, each looked into once; raises Unreadable for one that holds itself."""
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    known = sizes.get(id(value))
    if known == 0:
        raise Unreadable("has an alias within what it stands for, so it would never end")
    if known is None:
        sizes[id(value)] = 0
        inner: Iterable[Any] = chain(value.keys(), value.values()) if isinstance(value, dict) else value
        known = sizes[id(value)] = 1 + sum(_size(each, sizes) for each in inner)
    return known


def _told(problem: Exception) -> str:
    """Say what a parser raised: its own words and the line where it has them, else the type alone."""
    mark = getattr(problem, "problem_mark", None)
    line = f"line {mark.line + 1}: " if mark is not None else ""
    words = " ".join(str(getattr(problem, "problem", None) or type(problem).__name__).split())
    plain = "".join(sign if sign.isprintable() else "?" for sign in words)
    return f"is no YAML of plain values ({line}{plain[:_LONGEST]})"
