"""Large YAML files as they were parsed: plain values kept by the digest of the text, so that a text is parsed once."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

SMALLEST = 64 << 10
"""Bytes of a text that is worth it: a smaller one is parsed within half a second."""
MOST_KEPT = 4


class _Other(Exception):
    """A document holds more than JSON can say, such as a date."""


def parsed_before(folder: Path, text: bytes) -> Any | None:
    """Return what a text was parsed to, None where nobody kept it or what is there cannot be read."""
    import orjson

    if len(text) < SMALLEST:
        return None
    with suppress(OSError, ValueError):
        return orjson.loads(_file(folder, text).read_bytes())
    return None


def keep_parsed(folder: Path, text: bytes, document: Any) -> None:
    """Keep what a large text was parsed to, beside the few newest others; one that JSON cannot say is parsed each time."""
    import orjson

    if len(text) < SMALLEST:
        return
    # A home that cannot be written is read all the same
    with suppress(OSError, _Other):
        data = orjson.dumps(_plain(document))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _file(folder, text)
        aside = file.with_suffix(".new")
        aside.write_bytes(data)
        aside.replace(file)
        for older in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime, reverse=True)[MOST_KEPT:]:
            older.unlink(missing_ok=True)


def _file(folder: Path, text: bytes) -> Path:
    return folder / f"{hashlib.sha256(text).hexdigest()}.json"


def _plain(value: Any) -> Any:
    """Return a parsed value without what its parser noted beside it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    raise _Other(type(value).__name__)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise _Other(type(key).__name__)
    return str(key)
