"""An image's layers as a folder: what runs containers does with them, for a look at the image without any of those.

Every path is followed by ourselves, link by link and within the folder, before anything is written: `tarfile`'s own filters
let long paths out of the folder before Python 3.11.13 (CVE-2025-4517), and refuse links that are absolute within the image.
"""

from __future__ import annotations

import errno
import gzip
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from bentos.oci.contents import OPAQUE, WHITEOUT
from bentos.oci.entries import Layer, reading
from bentos.oci.kinds import INDEX, LAYER, LAYERS, MANIFEST, Descriptor, Platform
from bentos.oci.layout import Layout
from fleet.errors import ConvoyError, InputError, IntegrityError, NotSupported, OperationFailed

MOST_LINKS = 40
LONGEST_PATH, DEEPEST = 2048, 200
"""In characters and in folders: who walks through the image calls itself for each."""
SHOWN = 200
CAPABILITY = "SCHILY.xattr.security.capability"
REMEDY = "Make the image anew."
UNFIT = (errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL, errno.EMLINK)
"""What a file system says of names and links that it cannot have; all else is not the image's fault."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an image's layers may give in all: bytes of files, and entries."""

    file_bytes: int = 16 << 30
    entries: int = 500_000


@dataclass(slots=True)
class Laid:
    """What was laid so far: how much, files that would raise who runs them, and what the layer at hand has; by their paths."""

    bounds: Bounds
    file_bytes: int = 0
    entries: int = 0
    raising: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)

    def count(self, size: int) -> None:
        """Count an entry before it is laid; raises IntegrityError for more than the bounds allow."""
        self.entries += 1
        self.file_bytes += size
        if self.file_bytes > self.bounds.file_bytes or self.entries > self.bounds.entries:
            told = f"more than {self.bounds.file_bytes >> 20} MiB or {self.bounds.entries} entries"
            raise IntegrityError("the image", f"unpacks to {told}", "Make it smaller.")

    def freshen(self, path: str) -> None:
        """Remember that the layer at hand has a path, and so the folders above it."""
        while path and path not in self.fresh:
            self.fresh.add(path)
            path = posixpath.dirname(path)


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


def unpack_image(layout: Layout, manifest: dict[str, Any], to: Path, bounds: Bounds = Bounds()) -> tuple[str, ...]:
    """Lay an image's layers over one another in a new folder, every blob checked, owners left aside.

    Returns the files that had bits or attributes by which whoever runs them gets more rights; here they have none. The same
    layers give the same files and modes. Raises IntegrityError for wrong bytes, for what is no file, folder or link, for
    an entry that would leave the folder, and for more than the bounds allow; NotSupported for a layer that cannot be read
    here; OperationFailed where the folder cannot be written.
    """
    to.mkdir(parents=True)
    to.chmod(0o755)
    laid = Laid(bounds)
    for layer in manifest.get("layers", ()):
        wanted = Descriptor.of_json(layer, str(layout.root))
        if wanted.media_type not in LAYERS:
            raise NotSupported(str(layout.root), f"has a layer of type {wanted.media_type}", f"Give one whose layers are {LAYER}+gzip.")
        layout.check(wanted)
        laid.fresh.clear()
        with layout.open(wanted) as raw:
            plain = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if wanted.media_type.endswith("gzip") else raw
            try:
                with reading(plain) as entries:
                    for member in entries:
                        laid.count(member.size)
                        _lay(entries, member, to, laid)
            except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as problem:
                raise IntegrityError(f"layer {wanted.digest}", f"cannot be unpacked ({str(problem)[:SHOWN]})", REMEDY) from problem
            except OSError as problem:
                raise _refused(f"layer {wanted.digest}", problem) from problem
    return tuple(sorted(path for path in laid.raising if (to / path).is_file()))


def _refused(subject: str, problem: OSError) -> ConvoyError:
    if problem.errno in UNFIT:
        return IntegrityError(subject, f"has a name or a link that cannot be ({problem.strerror})", REMEDY)
    return OperationFailed(subject, f"could not be unpacked ({str(problem)[:SHOWN]})", "Look whether there is room below TMPDIR.")


def _lay(entries: Layer, member: tarfile.TarInfo, root: Path, laid: Laid) -> None:
    path = posixpath.normpath(member.name).lstrip("/")
    if path in ("", "."):
        return
    folder, name = posixpath.split(path)
    here = _within(root, folder)
    if name.startswith(WHITEOUT):
        _white_out(root, here, name, laid.fresh)
        return
    target, real = _folder(root, here) / name, posixpath.join(here, name)
    laid.freshen(real)
    if member.isdir():
        _lay_folder(target, member.mode)
    elif member.islnk():
        _link(root, member, target, laid)
    elif member.issym() or member.isreg():
        _clear(target)
        laid.raising.discard(real)
        if member.issym():
            target.symlink_to(member.linkname)
            return
        _write(entries, member, target)
        if member.mode & (stat.S_ISUID | stat.S_ISGID) or CAPABILITY in member.pax_headers:
            laid.raising.add(real)
    else:
        raise IntegrityError(member.name[:SHOWN], "is a device, a socket or a pipe", "Leave it out of the image.")


def _within(root: Path, path: str, links: int = MOST_LINKS) -> str:
    """Return the real path of a folder below the root, every link followed as if the root were the whole machine.

    What is not there yet is taken as it is named. Raises IntegrityError for a path that climbs out, or turns in circles.
    """
    parts, real = path.split("/")[::-1], list[str]()
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            if not real:
                raise IntegrityError(path[:SHOWN], "leaves the image", REMEDY)
            real.pop()
            continue
        here = "/".join((*real, part))
        if len(here) > LONGEST_PATH or len(real) >= DEEPEST:
            raise IntegrityError(path[:SHOWN], f"is longer than {LONGEST_PATH} characters or {DEEPEST} folders", REMEDY)
        if not (root / here).is_symlink():
            real.append(part)
            continue
        links -= 1
        if links < 0:
            raise IntegrityError(path[:SHOWN], "is a circle of links", REMEDY)
        target = str((root / here).readlink())
        real = [] if target.startswith("/") else real
        parts += target.split("/")[::-1]
    return "/".join(real)


def _folder(root: Path, path: str) -> Path:
    """Return a folder of the image, made where it is not there; raises IntegrityError where a file is in its place."""
    here = root
    for part in filter(None, path.split("/")):
        here /= part
        if not here.is_dir():
            try:
                here.mkdir()
            except FileExistsError as problem:
                raise IntegrityError(path[:SHOWN], "is a file, and no folder", REMEDY) from problem
            # Whatever this process's umask is: the same layers give the same modes
            here.chmod(0o755)
    return here


def _lay_folder(target: Path, mode: int) -> None:
    if target.is_symlink() or not target.is_dir():
        _clear(target)
        target.mkdir()
    # Without write bits for others, and never closed to its owner, who reads it to verify it
    target.chmod(mode & 0o755 | 0o700)


def _write(entries: Layer, member: tarfile.TarInfo, target: Path) -> None:
    with target.open("xb") as file:
        for chunk in entries.bytes_of(member):
            file.write(chunk)
    target.chmod(member.mode & 0o755 | 0o400)


def _link(root: Path, member: tarfile.TarInfo, target: Path, laid: Laid) -> None:
    if ".." in Path(member.linkname).parts:
        raise IntegrityError(member.name[:SHOWN], "leaves the image", REMEDY)
    folder, name = posixpath.split(posixpath.normpath(member.linkname).lstrip("/"))
    source = root / _within(root, folder) / name
    if source.is_symlink() or not source.is_file():
        raise IntegrityError(member.name[:SHOWN], f"is a link to {member.linkname[:SHOWN]!r}, which is no file of the image", REMEDY)
    if source == target:
        return
    _clear(target)
    os.link(source, target, follow_symlinks=False)
    linked, raising = target.relative_to(root).as_posix(), source.relative_to(root).as_posix() in laid.raising
    (laid.raising.add if raising else laid.raising.discard)(linked)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _white_out(root: Path, folder: str, name: str, fresh: Collection[str]) -> None:
    """Hide what lower layers have, and nothing that the whiteout's own layer has."""
    parent = root / folder
    if not parent.is_dir():
        return
    meant = name.removeprefix(WHITEOUT)
    if meant in ("", ".", ".."):
        raise IntegrityError(posixpath.join(folder, name)[:SHOWN], "leaves the image", REMEDY)
    for path in list(parent.iterdir()) if name == OPAQUE else [parent / meant]:
        _hide(root, path, fresh)


def _hide(root: Path, path: Path, fresh: Collection[str]) -> None:
    if path.relative_to(root).as_posix() not in fresh:
        _clear(path)
    elif path.is_dir() and not path.is_symlink():
        for inner in list(path.iterdir()):
            _hide(root, inner, fresh)
