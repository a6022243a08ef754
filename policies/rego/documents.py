"""The files that policies are asked about, each read as the documents that it holds; what kind it is, its keys tell."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from fleet.errors import InputError
from fleet.reading import read_fleet
from fleet.yaml_text import Unreadable, read_yaml_documents
from policies.rego.terraform import read_terraform

MOST_BYTES = 4 << 20
MOST_VALUES = 200_000
KNOWN = "a fleet or Kubernetes manifests (*.yaml, *.yml, *.json), or Terraform (*.tf)"
REMEDY = f"Name files that are {KNOWN}."


class Kind(StrEnum):
    """What a document is."""

    FLEET = "fleet"
    KUBERNETES = "Kubernetes"
    TERRAFORM = "Terraform"


@dataclass(frozen=True, slots=True)
class Document:
    """One document: `name` is its file, with the document's number where a file holds several; a JSON value."""

    file: Path
    name: str
    kind: Kind
    value: Any


def read_documents(file: Path) -> tuple[Document, ...]:
    """Return a file's documents; raises InputError for a file of no known kind, or one that cannot be read as its kind."""
    text = _read(file)
    if file.suffix == ".tf":
        return (Document(file, str(file), Kind.TERRAFORM, read_terraform(text, str(file))),)
    if file.suffix not in (".yaml", ".yml", ".json"):
        raise InputError(str(file), f"is of no kind that policies are asked about ({KNOWN})", REMEDY)
    values = [value for value in _parsed(file, text) if value is not None]
    if not values:
        raise InputError(str(file), "holds no document", REMEDY)
    return tuple(_document(file, number if len(values) > 1 else 0, value) for number, value in enumerate(values, 1))


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(str(file), f"is larger than {MOST_BYTES} bytes", REMEDY)
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(str(file), f"cannot be read ({type(problem).__name__})", REMEDY) from problem


def _parsed(file: Path, text: str) -> list[Any]:
    left = [MOST_VALUES]
    try:
        found = [json.loads(text, object_pairs_hook=_once)] if file.suffix == ".json" else read_yaml_documents(text, MOST_BYTES)
        return [_plain(value, left) for value in found]
    except (ValueError, RecursionError, Unreadable) as problem:
        raise InputError(str(file), f"cannot be read ({' '.join(str(problem).split())[:300]})", REMEDY) from problem


def _document(file: Path, number: int, value: Any) -> Document:
    name = f"{file}, document {number}" if number else str(file)
    keys = set(value) if isinstance(value, dict) else set()
    if {"apiVersion", "kind"} <= keys:
        return Document(file, name, Kind.KUBERNETES, value)
    if {"models", "regions"} <= keys and not number:
        read_fleet(file)
        return Document(file, name, Kind.FLEET, value)
    if keys & {"apiVersion", "kind", "models", "regions"}:
        why = "lacks " + ", ".join(sorted(({"models", "regions"} if keys & {"models", "regions"} else {"apiVersion", "kind"}) - keys))
        raise InputError(name, f"{why or 'is a fleet among other documents'}, so it is neither a fleet nor a Kubernetes manifest", REMEDY)
    told = ", ".join(sorted(map(str, keys))[:8]) or type(value).__name__
    raise InputError(name, f"is neither a fleet nor a Kubernetes manifest (it has {told})", REMEDY)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: who reads the file later may take the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _plain(value: Any, left: list[int]) -> Any:
    """Return YAML as JSON has it; raises ValueError for more values than `left`, or keys that JSON has once."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"it holds more than {MOST_VALUES} values: split it, and write aliases out")
    if isinstance(value, dict):
        return _once([(_key(key), _plain(each, left)) for key, each in value.items()])
    if isinstance(value, (list, tuple, set)):
        return [_plain(each, left) for each in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)
