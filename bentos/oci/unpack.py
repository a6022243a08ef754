"""An image's layers as a folder: what runs containers does with them, for a look at the image without any of those.

Every path is followed by ourselves, link by link and within the folder, before anything is written: `tarfile`'s own filters
let long paths out of the folder before Python 3.11.13 (CVE-2025-4517), and refuse links that are absolute within the image.
"""

from __future__ import annotations

import gzip
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.oci.contents import OPAQUE, WHITEOUT
from bentos.oci.kinds import INDEX, LAYER, LAYERS, MANIFEST, Descriptor, Platform
from bentos.oci.layout import Layout
from fleet.errors import InputError, IntegrityError, NotSupported, OperationFailed

CHUNK = 1 << 20
MOST_LINKS = 40
LONGEST_PATH = 2048
MOST_HEADER = 1 << 20
"""What a header of names and attributes may have; tarfile reads it into memory whole."""
CAPABILITY = "SCHILY.xattr.security.capability"
REMEDY = "Make the image anew."


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much an image's layers may give in all: bytes of files, and entries."""

    file_bytes: int = 16 << 30
    entries: int = 500_000


@dataclass(slots=True)
class Laid:
    """What was laid so far: how much, and files that would raise who runs them, by their paths."""

    bounds: Bounds
    file_bytes: int = 0
    entries: int = 0
    raising: set[str] = field(default_factory=set)

    def count(self, size: int) -> None:
        """Count an entry before it is laid; raises IntegrityError for more than the bounds allow."""
        self.entries += 1
        self.file_bytes += size
        if self.file_bytes > self.bounds.file_bytes or self.entries > self.bounds.entries:
            told = f"more than {self.bounds.file_bytes >> 20} MiB or {self.bounds.entries} entries"
            raise IntegrityError("the image", f"unpacks to {told}", "Make it smaller.")


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
        with layout.open(wanted) as raw:
            plain = gzip.GzipFile(fileobj=raw) if wanted.media_type.endswith("gzip") else raw
            try:
                with tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK, tarinfo=_Entry) as tar:
                    for member in tar:
                        laid.count(member.size)
                        _lay(tar, member, to, laid)
            except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as problem:
                raise IntegrityError(f"layer {wanted.digest}", f"cannot be unpacked ({problem})", REMEDY) from problem
            except OSError as problem:
                raise OperationFailed(
                    f"layer {wanted.digest}", f"could not be unpacked ({problem})", "Look whether there is room below TMPDIR."
                ) from problem
    return tuple(sorted(path for path in laid.raising if (to / path).is_file()))


class _Entry(tarfile.TarInfo):
    """An entry whose headers are of bounded size."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _HEADERS and self.size > MOST_HEADER:
            raise tarfile.HeaderError(f"a header of {self.size} bytes")
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return found


_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def _lay(tar: tarfile.TarFile, member: tarfile.TarInfo, root: Path, laid: Laid) -> None:
    path = posixpath.normpath(member.name).lstrip("/")
    if path in ("", "."):
        return
    folder, name = posixpath.split(path)
    here = _within(root, folder)
    if name.startswith(WHITEOUT):
        _white_out(root, here, name)
        return
    parent = _folder(root, here)
    target = parent / name
    if member.isdir():
        _lay_folder(target, member.mode)
        return
    _clear(target)
    laid.raising.discard(f"{here}/{name}".lstrip("/"))
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        _link(root, member, target)
    elif member.isreg():
        _write(tar, member, target)
        if member.mode & (stat.S_ISUID | stat.S_ISGID) or CAPABILITY in member.pax_headers:
            laid.raising.add(f"{here}/{name}".lstrip("/"))
    else:
        raise IntegrityError(member.name, "is a device, a socket or a pipe", "Leave it out of the image.")


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
                raise IntegrityError(path, "leaves the image", REMEDY)
            real.pop()
            continue
        here = "/".join((*real, part))
        if len(here) > LONGEST_PATH:
            raise IntegrityError(path[:200], f"is longer than {LONGEST_PATH} characters", REMEDY)
        if not (root / here).is_symlink():
            real.append(part)
            continue
        links -= 1
        if links < 0:
            raise IntegrityError(path, "is a circle of links", REMEDY)
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
                raise IntegrityError(path, "is a file, and no folder", REMEDY) from problem
            # Whatever this process's umask is: the same layers give the same modes
            here.chmod(0o755)
    return here


def _lay_folder(target: Path, mode: int) -> None:
    if target.is_symlink() or not target.is_dir():
        _clear(target)
        target.mkdir()
    # Without write bits for others, and never closed to its owner, who reads it to verify it
    target.chmod(mode & 0o755 | 0o700)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = tar.extractfile(member)
    with target.open("xb") as file:
        while source is not None and (chunk := source.read(CHUNK)):
            file.write(chunk)
    target.chmod(member.mode & 0o755 | 0o400)


def _link(root: Path, member: tarfile.TarInfo, target: Path) -> None:
    if ".." in Path(member.linkname).parts:
        raise IntegrityError(member.name, "leaves the image", REMEDY)
    folder, name = posixpath.split(posixpath.normpath(member.linkname).lstrip("/"))
    source = root / _within(root, folder) / name
    if source.is_symlink() or not source.is_file():
        raise IntegrityError(member.name, f"is a link to {member.linkname!r}, which is no file of the image", REMEDY)
    os.link(source, target, follow_symlinks=False)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _white_out(root: Path, folder: str, name: str) -> None:
    parent = root / folder
    if not parent.is_dir():
        return
    meant = name.removeprefix(WHITEOUT)
    if meant in ("", ".", ".."):
        raise IntegrityError(f"{folder}/{name}".lstrip("/"), "leaves the image", REMEDY)
    for path in list(parent.iterdir()) if name == OPAQUE else [parent / meant]:
        _clear(path)
