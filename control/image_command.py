"""`convoy copy-image`: an image from one registry to another, with its digest."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from control.printing import out, print_json
from registry.images import copy_image
from registry.logins import login_for
from registry.oci import OciRegistry, Place

MIB = 1 << 20


def copy_between_registries(source: str, target: str, authfile: Path | None, as_json: bool) -> None:
    """Copy an image and say what came of it."""
    here, there = Place.parse(source), Place.parse(target)
    ends = [OciRegistry(place.host, login_for(place.host, authfile)) for place in (here, there)]
    done = copy_image(ends[0], ends[1], here, there)
    if as_json:
        print_json(asdict(done))
        return
    out.print(f"[bold]{done.digest}[/] is at {escape(str(there))}, read back")
    out.print(f"  {done.sent} blobs sent ({done.bytes / MIB:.1f} MiB), {done.mounted} mounted, {done.present} there already")
    if done.referrers:
        out.print(f"  with {len(done.referrers)} manifests that refer to it (signatures, attestations, bills of materials)")
