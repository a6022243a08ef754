"""An image's layers as a folder: what runs containers does with them, for a look at the image without any of those."""

from __future__ import annotations

import gzip
import posixpath
import shutil
import tarfile
from pathlib import Path
from typing import Any

from bentos.oci.kinds import INDEX, MANIFEST, Descriptor, Platform
from bentos.oci.layout import Layout
from fleet.errors import InputError, IntegrityError, NotSupported

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
"""https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts"""


def image_in(layout: Layout, platform: Platform) -> tuple[Descriptor, dict[str, Any], dict[str, Any]]:
    """Return the first image of a layout as Convoy writes it, for one platform: its manifest's descriptor, that, and its configuration.

    Raises InputError for a layout without an image; NotSupported for one without this platform.
    """
    named = next((found for found in layout.manifests() if found.media_type == INDEX), None)
    if named is None:
        raise InputError(str(layout.root), "holds no image index as `convoy package` writes it", "Give the folder of --oci.")
    listed = layout.read(named).get("manifests", [])
    for found in listed:
        if found.get("mediaType") == MANIFEST and found.get("platform") == platform.as_json():
            descriptor = Descriptor.of_json(found, str(layout.root))
            manifest = layout.read(descriptor)
            return descriptor, manifest, layout.read(Descriptor.of_json(manifest.get("config"), str(layout.root)))
    had = ", ".join(sorted(f"{each.get('platform', {}).get('os')}/{each.get('platform', {}).get('architecture')}" for each in listed))
    raise NotSupported(str(layout.root), f"has no image for {platform} (has: {had or 'none'})", "Package it for this platform.")


def unpack_image(layout: Layout, manifest: dict[str, Any], to: Path) -> None:
    """Lay an image's layers over one another in a new folder, every blob checked, owners left aside.

    Raises IntegrityError for wrong bytes and for an entry that would leave the folder.
    """
    to.mkdir(parents=True)
    for layer in manifest["layers"]:
        wanted = Descriptor.of_json(layer, str(layout.root))
        layout.check(wanted)
        with layout.open(wanted) as raw:
            plain = gzip.GzipFile(fileobj=raw) if wanted.media_type.endswith("gzip") else raw
            try:
                with tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as tar:
                    for member in tar:
                        _lay(tar, member, to)
            except (tarfile.TarError, EOFError) as problem:
                raise IntegrityError(f"layer {wanted.digest}", f"cannot be unpacked ({problem})", "Package the version again.") from problem


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    folder, name = posixpath.split(posixpath.normpath(member.name))
    if name.startswith(WHITEOUT):
        _white_out(root, folder, name)
        return
    if member.islnk() and ".." in Path(member.linkname).parts:
        raise IntegrityError(member.name, "is a link out of the image", "Take another base.")
    safe = tarfile.tar_filter(member, str(root))
    here = root / safe.name
    if here.is_symlink() or (here.is_file() and not safe.isdir()):
        here.unlink()
    tar.extract(safe.replace(uid=None, gid=None, deep=False), root, set_attrs=True, filter="fully_trusted")  # type: ignore[arg-type]


def _white_out(root: Path, folder: str, name: str) -> None:
    parent = root / folder
    if not parent.resolve().is_relative_to(root.resolve()):
        raise IntegrityError(f"{folder}/{name}", "is a whiteout out of the image", "Take another base.")
    gone = list(parent.iterdir()) if name == OPAQUE else [parent / name.removeprefix(WHITEOUT)]
    for path in gone:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
