"""`convoy package`: the Bento that a release would make, and its image, without releasing anything."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape

from bentos.oci.kinds import Platform, platform_of, this_platform
from control.printing import out, print_json, progress
from fleet.errors import InputError
from flows.house import House
from flows.images import ImageOrder, Order, Packed, package_version

MIB = 1 << 20
MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command was told, word for word."""

    model: str
    version: str
    out: Path | None
    oci: Path | None
    bases: tuple[str, ...]
    environments: tuple[str, ...]
    platforms: tuple[str, ...]
    load: bool


def package(wanted: Wanted, as_json: bool) -> None:
    """Package a version and say what came of it; each step is told on stderr as it begins, with the seconds since the start."""
    began = time.monotonic()
    order = Order(wanted.model, wanted.version, wanted.out, _image_order(wanted))
    packed = package_version(House.open(), order, lambda text: progress.print(f"{time.monotonic() - began:6.1f} s  {text}", markup=False))
    if as_json:
        print_json(_document(packed, order))
    else:
        _tell(packed, order)


def _image_order(wanted: Wanted) -> ImageOrder | None:
    if wanted.oci is None:
        for option, given in (("--base", wanted.bases), ("--environment", wanted.environments), ("--platform", wanted.platforms)):
            if given:
                raise InputError(option, "is about an image, and none is asked for", "Add --oci FOLDER.")
        if wanted.load:
            raise InputError("--load", "is about an image, and none is asked for", "Add --oci FOLDER.")
        return None
    platforms = tuple(dict.fromkeys(platform_of(text) for text in wanted.platforms)) or (this_platform(),)
    bases = _per_platform("--base", wanted.bases, platforms)
    missing = [str(platform) for platform in platforms if platform not in bases]
    if missing:
        raise InputError(
            f"image for {', '.join(missing)}",
            "has no base to begin with, and none can be pulled",
            "Give --base: an OCI layout (skopeo copy --all docker://IMAGE oci:FOLDER), or a folder that is a root file system.",
        )
    return ImageOrder(wanted.oci, bases, _per_platform("--environment", wanted.environments, platforms), wanted.load)


def _per_platform(option: str, given: tuple[str, ...], platforms: tuple[Platform, ...]) -> dict[Platform, Path]:
    """Read `FOLDER` (for all platforms) and `ARCHITECTURE=FOLDER` (for one)."""
    found: dict[Platform, Path] = {}
    for text in given:
        name, divider, folder = text.partition("=")
        named = (platform_of(name),) if divider and not Path(text).exists() else platforms
        for platform in named:
            if platform not in platforms:
                raise InputError(f"{option} {text}", f"is for {platform}, and no image for it is asked for", "Add --platform.")
            if platform in found:
                raise InputError(f"{option} {text}", f"is a second one for {platform}", "Give one for each platform.")
            found[platform] = Path(folder if divider and not Path(text).exists() else text)
    return found


def _document(packed: Packed, order: Order) -> dict[str, object]:
    image = packed.image
    return {
        "model": packed.revision.model,
        "version": packed.revision.version,
        "revision": packed.revision.digest,
        "files": packed.files,
        "bytes": packed.size,
        "bento": None if order.out is None else str(order.out),
        "locked_by_hash": not packed.unhashed,
        "unhashed": list(packed.unhashed),
        "stored": packed.stored,
        "image": None
        if image is None or order.image is None
        else {
            "digest": image.digest,
            "folder": str(order.image.to),
            "name": image.name,
            "platforms": [str(platform) for platform in image.manifests],
            "bytes": image.size,
            "loaded_by": packed.loaded_by,
        },
    }


def _tell(packed: Packed, order: Order) -> None:
    revision = packed.revision
    out.print(f"{escape(revision.model)} version {escape(revision.version)} is revision [bold]{revision.digest}[/]")
    out.print(f"  {packed.files} files, {packed.size / MIB:.1f} MiB{f', in {escape(str(order.out))}' if order.out else ''}")
    out.print(f"  {'released before, and stored' if packed.stored else 'not stored: nothing was released'}")
    if packed.unhashed:
        named = ", ".join(packed.unhashed[:MOST_TOLD])
        more = f" and {len(packed.unhashed) - MOST_TOLD} more" if len(packed.unhashed) > MOST_TOLD else ""
        out.print(f"  [yellow]locked by versions, not by hash[/]: Convoy's lock has not {escape(named)}{more}; see gates.dependencies.lock")
    else:
        out.print("  its environment is locked by hash")
    if packed.image is not None and order.image is not None:
        platforms = ", ".join(str(platform) for platform in packed.image.manifests)
        out.print(f"image [bold]{packed.image.digest}[/] for {platforms}, {packed.image.size / MIB:.1f} MiB")
        out.print(f"  oci:{escape(str(order.image.to))}:{escape(packed.image.name)}")
        if packed.loaded_by:
            out.print(f"  loaded by {packed.loaded_by}")
