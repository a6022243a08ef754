"""Callers are told apart, never known: a key that stays on the edge turns their addresses into marks."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from traffic.attempts.lines import Mask

KEY_BYTES: Final = 32
MARK_BYTES: Final = 8


def mask_with(key_file: Path) -> Mask:
    """Return the edge's keyed hash of an address (BLAKE2b, 8 bytes in hex); makes the key, mode 0600, when there is none."""
    key = _key(key_file)

    def mask(address: str) -> str:
        return hashlib.blake2b(address.encode(), key=key, digest_size=MARK_BYTES).hexdigest()

    return mask


def _key(key_file: Path) -> bytes:
    if not key_file.exists():
        fresh = key_file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        fresh.rename(key_file)
    return key_file.read_bytes()
