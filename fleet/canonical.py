"""Canonical bytes and their digests: the same value gives the same bytes everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import rfc8785

CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Integers must lie within ±2^53; decimals travel as strings.
    """
    return rfc8785.dumps(value)


def digest_of(data: bytes) -> str:
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
