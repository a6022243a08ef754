"""A lock: requirements pinned at one version and by the hashes of their files, as pip reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InputError

MOST_BYTES = 32 << 20
_NAME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.!+_-]+)(?:\s*;([^#]*?))?(?=\s+--|$)")
_HASH = re.compile(r"--hash=(\S+)")
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock; `hashes` are `sha256:<hex>`, sorted."""

    version: str
    hashes: tuple[str, ...]


def read_pins(file: Path) -> Mapping[str, Pin]:
    """Return the pins of a lock by normalised name.

    A line without a version or a hash, a weaker hash and a package that is pinned twice raise InputError: of such a file
    nobody could say what it pins. Lines whose marker is not of this interpreter are read over.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.stat().st_size <= MOST_BYTES else None
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(str(file), f"cannot be read ({problem})", "Correct gates.dependencies.lock.") from problem
    if text is None:
        raise InputError(str(file), f"is larger than {MOST_BYTES >> 20} MiB", "Correct gates.dependencies.lock.")
    return of_text(text, str(file))


def of_text(text: str, subject: str) -> Mapping[str, Pin]:
    """Return the pins of a lock's text; raises InputError that names `subject`."""
    found: dict[str, Pin] = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        wanted = re.sub(r"(^|\s)#.*", "", line).strip()
        if not wanted:
            continue
        name, pin, applies = _pin(wanted, subject)
        if applies and found.setdefault(name, pin) != pin:
            raise InputError(subject, f"pins {name} twice, and differently", "Make the lock again.")
    return found


def _pin(line: str, subject: str) -> tuple[str, Pin, bool]:
    from packaging.markers import InvalidMarker, Marker
    from packaging.utils import canonicalize_name

    named = _NAME.match(line)
    hashes = _HASH.findall(line)
    if named is None:
        raise InputError(subject, f"does not pin '{line[:80]}' at a version", "Make the lock again, with hashes.")
    if not hashes or not all(map(_SHA256.fullmatch, hashes)):
        raise InputError(subject, f"pins {named[1]} by no SHA-256 hash", "Make the lock again, with hashes.")
    try:
        applies = named[3] is None or Marker(named[3]).evaluate()
    except InvalidMarker as problem:
        raise InputError(subject, f"has a marker for {named[1]} that nobody can read", "Make the lock again.") from problem
    return canonicalize_name(named[1]), Pin(named[2], tuple(sorted(set(hashes)))), applies
