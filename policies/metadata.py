"""What a model's author wrote into the metadata of its MLmodel file, read without loading the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet.yaml_text import Unreadable, read_yaml_file


def metadata_of(folder: Path) -> Mapping[str, str]:
    """Return the texts of the metadata; nothing where there is none, or where it cannot be read."""
    try:
        document = read_yaml_file(folder / "MLmodel")
    except Unreadable:
        return {}
    found = document.get("metadata") if isinstance(document, Mapping) else None
    return {str(key): value for key, value in found.items() if isinstance(value, str)} if isinstance(found, Mapping) else {}
