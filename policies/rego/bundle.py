"""A bundle of Rego files, and what names it: the digest of its paths and bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fleet.canonical import canonical_json, digest_of
from fleet.errors import InputError
from fleet.yaml_text import Unreadable, read_yaml

RULES = Path(__file__).parents[1] / "rules"
DATA = Path(__file__).parents[1] / "data"
MOST_FILES = 200
MOST_BYTES = 1 << 20
TEST = "_test.rego"
REMEDY = "Correct the policy; nothing was decided."


@dataclass(frozen=True)
class Bundle:
    """Rego files: their paths below the bundle's folder, POSIX and sorted, and their texts."""

    files: tuple[tuple[str, str], ...]

    @cached_property
    def digest(self) -> str:
        """The digest of a canonical list of every path and the digest of its bytes."""
        return digest_of(canonical_json([[path, digest_of(text.encode())] for path, text in self.files]))

    @cached_property
    def rules(self) -> Bundle:
        """The bundle without its tests: what decides."""
        return Bundle(tuple((path, text) for path, text in self.files if not path.endswith(TEST)))


def read_bundle(folder: Path) -> Bundle:
    """Return every *.rego file below a folder; raises InputError for what is no bundle, too large, or leads elsewhere."""
    if not folder.is_dir():
        raise InputError(f"policy folder {folder}", "is no folder", "Name the folder that holds the *.rego files.")
    paths = sorted(path for path in folder.rglob("*.rego") if path.is_file())
    if not paths:
        raise InputError(f"policy folder {folder}", "holds no *.rego file, so nothing in it could refuse", REMEDY)
    if len(paths) > MOST_FILES:
        raise InputError(
            f"policy folder {folder}", f"holds {len(paths)} files, more than {MOST_FILES}", "Name the folder of the policy alone."
        )
    inside = folder.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(inside):
            raise InputError(f"policy {path}", "leads out of its folder", "Copy the file into the folder.")
    return Bundle(tuple((path.relative_to(folder).as_posix(), _text(path)) for path in paths))


def shipped_bundle() -> Bundle:
    """Return the policies that Convoy brings."""
    return read_bundle(RULES)


def shipped_data() -> dict[str, Any]:
    """Return what the shipped policies are told, by subject: one key per file."""
    return merged(read_data(path) for path in sorted(DATA.iterdir()) if path.suffix in (".json", ".yaml"))


def read_data(path: Path) -> dict[str, Any]:
    """Return the mapping that a data file (JSON or YAML) holds; raises InputError where it is none."""
    text = _text(path)
    try:
        found = json.loads(text) if path.suffix == ".json" else read_yaml(text, MOST_BYTES)
    except (ValueError, RecursionError, Unreadable) as problem:
        raise InputError(f"policy data {path}", f"cannot be read ({_first(problem)})", REMEDY) from problem
    if not isinstance(found, dict):
        raise InputError(f"policy data {path}", "must be a mapping, one key per subject", REMEDY)
    return found


def merged(several: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return several data files as one: a key that a later one has replaces the earlier one's whole."""
    return {key: value for each in several for key, value in each.items()}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"policy {path}", f"is larger than {MOST_BYTES} bytes", "Split it.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"policy {path}", f"cannot be read ({type(problem).__name__})", REMEDY) from problem


def _first(problem: Exception) -> str:
    return " ".join(str(problem).split())[:300]
