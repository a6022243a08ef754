"""Canonical bytes and their digests: the same value gives the same bytes everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import rfc8785

CHUNK = 1 << 20
_LARGEST, _DEEPEST = 2**53, 100


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Integers must lie within ±2^53; decimals travel as strings.
    """
    # orjson writes the same bytes many times faster, but not for floats, nor in the order of keys that are not ASCII
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if _is_simple(value) else rfc8785.dumps(value)


def _is_simple(value: Any, depth: int = 0) -> bool:
    """Whether a value is made of nothing but ASCII text, integers within the range, booleans and nulls."""
    kind = type(value)
    if kind is str:
        return bool(value.isascii())
    if kind is int:
        return bool(-_LARGEST < value < _LARGEST)
    if kind is dict and depth < _DEEPEST:
        return all(type(key) is str and key.isascii() and _is_simple(inner, depth + 1) for key, inner in value.items())
    if kind in (list, tuple) and depth < _DEEPEST:
        return all(_is_simple(inner, depth + 1) for inner in value)
    return value is None or kind is bool


def digest_of(data: bytes | memoryview) -> str:
    """Return `sha256:<hex>` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_of_file(path: Path) -> str:
    """Return `sha256:<hex>` of a file, read in chunks of one MiB."""
    running = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            running.update(chunk)
    return "sha256:" + running.hexdigest()


def short(digest: str) -> str:
    """Return the first twelve hex digits of a digest: enough for a name, never for a check."""
    return digest.removeprefix("sha256:")[:12]
