"""What a model's author wrote into the metadata of its MLmodel file, read without loading the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MOST_BYTES = 4 << 20


def metadata_of(folder: Path) -> Mapping[str, str]:
    """Return the texts of the metadata; nothing where there is none, or where it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        with (folder / "MLmodel").open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
        document = YAML(typ="safe", pure=True).load(text) if len(text) <= MOST_BYTES else None
    except (OSError, YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    found = document.get("metadata") if isinstance(document, Mapping) else None
    return {str(key): value for key, value in found.items() if isinstance(value, str)} if isinstance(found, Mapping) else {}
