"""Two builds of one Bento, compared."""

from __future__ import annotations

from fleet.manifest import Entry, Manifest


def difference(first: Manifest, second: Manifest) -> str:
    """Name the first file by which two builds differ and how; nothing where they are one."""
    one, other = _by_path(first), _by_path(second)
    for path in sorted(one.keys() | other.keys()):
        found, again = one.get(path), other.get(path)
        if found is None or again is None:
            return f"{path} is in the {'second' if found is None else 'first'} build alone"
        if found.mode != again.mode:
            return f"{path} has the mode {found.mode:o} in one and {again.mode:o} in the other"
        if found.digest != again.digest:
            return f"{path} has other bytes in each ({found.size} and {again.size})"
    return ""


def _by_path(manifest: Manifest) -> dict[str, Entry]:
    return {entry.path: entry for entry in manifest.entries}
