"""`convoy export`: a stored revision as an OCI layout."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from control.printing import out, print_json
from flows.exporting import export
from flows.house import House

MIB = 1 << 20


def export_revision(model: str, version: str | None, to: Path, region: str | None, as_json: bool) -> None:
    """Export a revision and say what came of it."""
    found = export(House.open(), model, version, to, region)
    if as_json:
        print_json({**asdict(found), "folder": str(to)})
        return
    revision = found.revision
    out.print(f"{escape(revision.model)} version {escape(revision.version)}, revision [bold]{revision.digest}[/]")
    out.print(f"  oci:{escape(str(to))}:{escape(found.name)} is {found.digest}, {found.files} files, {found.size / MIB:.1f} MiB")
