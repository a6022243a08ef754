"""An image's layers as a folder: what runs containers does with them, for a look at the image without any of those."""

from __future__ import annotations

import gzip
import os
import posixpath
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from bentos.oci.contents import OPAQUE, WHITEOUT
from bentos.oci.kinds import INDEX, LAYER, LAYERS, MANIFEST, Descriptor, Platform
from bentos.oci.layout import Layout
from fleet.errors import InputError, IntegrityError, NotSupported, OperationFailed

REMEDY = "Take another base."


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

    Devices and pipes are left out: nobody in the image may make use of them. Raises IntegrityError for wrong bytes and for
    an entry that would leave the folder; NotSupported for a layer that cannot be read here; OperationFailed where the
    folder cannot be written.
    """
    to.mkdir(parents=True)
    for layer in manifest.get("layers", ()):
        wanted = Descriptor.of_json(layer, str(layout.root))
        if wanted.media_type not in LAYERS:
            raise NotSupported(str(layout.root), f"has a layer of type {wanted.media_type}", f"Give one whose layers are {LAYER}+gzip.")
        layout.check(wanted)
        with layout.open(wanted) as raw:
            plain = gzip.GzipFile(fileobj=raw) if wanted.media_type.endswith("gzip") else raw
            try:
                with tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 20) as tar:
                    for member in tar:
                        _lay(tar, member, to)
            except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as problem:
                raise IntegrityError(f"layer {wanted.digest}", f"cannot be unpacked ({problem})", "Package the version again.") from problem
            except OSError as problem:
                raise OperationFailed(
                    f"layer {wanted.digest}", f"could not be unpacked ({problem})", "Look whether there is room below TMPDIR."
                ) from problem


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    folder, name = posixpath.split(posixpath.normpath(member.name).lstrip("/"))
    if name in ("", "."):
        return
    here = _inside(root, folder, member.name) / name
    if name == ".." or name in (WHITEOUT, f"{WHITEOUT}.", f"{WHITEOUT}.."):
        raise IntegrityError(member.name, "leaves the image", REMEDY)
    if name.startswith(WHITEOUT):
        _white_out(here)
    elif member.islnk():
        _link(root, member, here)
    elif member.isreg() or member.isdir() or member.issym():
        if not (member.isdir() and here.is_dir() and not here.is_symlink()):
            _remove(here)
        safe = tarfile.tar_filter(member, str(root))
        tar.extract(safe.replace(uid=None, gid=None, deep=False), root, set_attrs=True, filter="fully_trusted")  # type: ignore[arg-type]


def _inside(root: Path, folder: str, subject: str) -> Path:
    """Return a folder of the image; raises IntegrityError where the way to it, through links too, leaves the image."""
    here = root
    for part in PurePosixPath(folder).parts:
        here = here / part
        if part == "..":
            raise IntegrityError(subject, "leaves the image", REMEDY)
        # Strictly: what cannot be resolved to its end may lead anywhere
        if os.path.lexists(here) and not here.resolve(strict=True).is_relative_to(root.resolve()):
            raise IntegrityError(subject, "leaves the image", REMEDY)
    return here


def _link(root: Path, member: tarfile.TarInfo, here: Path) -> None:
    """Make a hard link to a file of the image; its mode is left alone, as it may be a link that leads elsewhere."""
    folder, name = posixpath.split(posixpath.normpath(member.linkname).lstrip("/"))
    target = _inside(root, folder, member.name) / name
    if not (target.is_symlink() or target.is_file()):
        raise IntegrityError(member.name, "is a link to no file of the image", REMEDY)
    if here != target:
        _remove(here)
        here.parent.mkdir(parents=True, exist_ok=True)
        os.link(target, here, follow_symlinks=False)


def _white_out(here: Path) -> None:
    gone = here.parent.iterdir() if here.name == OPAQUE else (here.with_name(here.name.removeprefix(WHITEOUT)),)
    for path in tuple(gone) if here.parent.is_dir() else ():
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
