"""What is taken of an OCI layout: one platform's image by its digest, every blob checked, and nothing that it does not name."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

from bentos.oci.kinds import ARCHITECTURES, LAYERS, MANIFEST, Descriptor
from bentos.oci.layout import Layout
from bentos.oci.unpack import Bounds
from fleet.errors import InputError, IntegrityError, NotSupported

BOUNDS = Bounds(file_bytes=8 << 30, entries=300_000)
"""What an image may give: more than any that serves one model is likely to have."""
MOST_LAYERS = 128
MOST_WORDS, LONGEST_WORD = 256, 32_768
CHUNK = 1 << 20
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_UNFIT = re.compile("[\0\ud800-\udfff]")
"""No process is started with these, and no JSON holds them."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a layout: its manifest with its descriptor, its layers, and its configuration."""

    manifest: Descriptor
    document: Mapping[str, Any]
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    architecture: str
    settings: Mapping[str, Any]

    @property
    def words(self) -> tuple[str, ...]:
        """Its command: the entrypoint and the words behind it."""
        return (*(self.settings.get("Entrypoint") or ()), *(self.settings.get("Cmd") or ()))

    @property
    def variables(self) -> tuple[str, ...]:
        """Its environment, as NAME=VALUE."""
        return tuple(self.settings.get("Env") or ())

    @property
    def folder(self) -> str:
        """Where its command begins."""
        return str(self.settings.get("WorkingDir") or "/")


def image_of(layout: Layout, digest: str) -> Image:
    """Return the image of a digest as its layout describes it.

    Raises InputError for a folder that is no layout, an index over several platforms, and an image that cannot be served;
    IntegrityError for wrong bytes and a document that is none; NotSupported for kinds of layers that are not read here.
    """
    subject = f"container {digest}"
    if not Layout.is_one(layout.root):
        raise InputError(str(layout.root), "is no OCI layout", "Make one: skopeo copy docker://IMAGE oci:FOLDER.")
    if not layout.blob(digest).is_file():
        raise InputError(str(layout.root), f"holds no image {digest}", "Copy the image into the layout, or correct its digest.")
    manifest = Descriptor(MANIFEST, digest, layout.blob(digest).stat().st_size)
    document = layout.read(manifest)
    if "manifests" in document:
        raise InputError(subject, f"is an index over several platforms: {_platforms(document)}", "Declare the digest of one of these.")
    config = Descriptor.of_json(document.get("config"), subject)
    told = layout.read(config)
    settings = told.get("config") or {}
    found = document.get("layers")
    layers = tuple(Descriptor.of_json(each, subject) for each in (found if isinstance(found, list) else ()))
    diff_ids = (told.get("rootfs") or {}).get("diff_ids") if isinstance(told.get("rootfs"), Mapping) else None
    _check_layers(subject, layers, diff_ids)
    architecture = str(told.get("architecture"))
    image = Image(manifest, document, config, layers, tuple(diff_ids or ()), architecture, settings)
    _check_settings(subject, image, str(told.get("os")))
    return image


def take(source: Layout, image: Image, to: Layout) -> None:
    """Copy the image's blobs into a layout of its own, each held against its digest, its size and its uncompressed digest.

    Raises IntegrityError for wrong bytes.
    """
    for wanted in (image.manifest, image.config, *image.layers):
        blob = source.blob(wanted.digest)
        if blob.is_file() and blob.stat().st_size != wanted.size:
            raise IntegrityError(str(blob), f"has not the {wanted.size} bytes that its image names", _AGAIN)
        to.take(source, wanted, wanted.media_type)
    left = 2 * BOUNDS.file_bytes
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        found, size = _uncompressed(to, layer, left)
        left -= size
        if found != diff_id:
            raise IntegrityError(f"layer {layer.digest}", f"unpacks to {found}, not to {diff_id}", _AGAIN)
    kind = str(image.document.get("mediaType") or MANIFEST)
    to.finish([Descriptor(kind, image.manifest.digest, image.manifest.size)])


_AGAIN = "Make the layout again, for instance with `skopeo copy`."


def _check_layers(subject: str, layers: tuple[Descriptor, ...], diff_ids: Any) -> None:
    if not layers or not isinstance(diff_ids, list) or len(diff_ids) != len(layers) or len(layers) > MOST_LAYERS:
        raise IntegrityError(subject, f"has {len(layers)} layers, and its configuration names others (most: {MOST_LAYERS})", _AGAIN)
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise NotSupported(subject, f"has a layer of type {layer.media_type[:100]}", f"Give one of these: {', '.join(sorted(LAYERS))}.")
    if sum(layer.size for layer in layers) > BOUNDS.file_bytes:
        raise IntegrityError(subject, f"is larger than {BOUNDS.file_bytes >> 30} GiB", "Make it smaller.")


def _check_settings(subject: str, image: Image, system: str) -> None:
    """Raise InputError for an image that says of itself what nobody can start."""
    if not isinstance(image.settings, Mapping) or system != "linux" or image.architecture not in ARCHITECTURES:
        raise InputError(subject, f"is for {system}/{image.architecture}", f"Give one for linux on {' or '.join(ARCHITECTURES)}.")
    for name in ("Entrypoint", "Cmd", "Env"):
        if not _are_words(image.settings.get(name) or []):
            raise InputError(subject, f"has an {name} that is no list of texts", "Make the image again.")
    if not image.words:
        raise InputError(subject, "has no command", "Name it in the image: ENTRYPOINT [...].")
    if not all("=" in each[1:] for each in image.variables) or not image.folder.startswith("/") or not _are_words([image.folder]):
        raise InputError(
            subject, "has a variable without a name or a value, or a folder to begin in that is not absolute", "Make the image again."
        )
    user = str(image.settings.get("User") or "root")
    if not _NUMBER.fullmatch(user.partition(":")[0]):
        raise InputError(subject, f"runs as {user}", "Let it run as a number that is not 0: USER 65532.")


def _are_words(found: Any) -> bool:
    return (
        isinstance(found, list)
        and len(found) <= MOST_WORDS
        and all(isinstance(word, str) and len(word) <= LONGEST_WORD and not _UNFIT.search(word) for word in found)
    )


def _platforms(index: Mapping[str, Any]) -> str:
    listed = [each for each in index["manifests"] if isinstance(each, Mapping)] if isinstance(index["manifests"], list) else []
    told = [
        f"{each['platform'].get('os')}/{each['platform'].get('architecture')} {each.get('digest')}"
        for each in listed[:8]
        if isinstance(each.get("platform"), Mapping)
    ]
    return ", ".join(told) or "none that it names"


def _uncompressed(layout: Layout, layer: Descriptor, most: int) -> tuple[str, int]:
    """Return the digest of a layer's uncompressed bytes and how many they are; raises IntegrityError for more than `most`."""
    running, size = hashlib.sha256(), 0
    with layout.open(layer) as raw:
        plain = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if layer.media_type.endswith("gzip") else raw
        try:
            while chunk := plain.read(CHUNK):
                running.update(chunk)
                size += len(chunk)
                if size > most:
                    raise IntegrityError(f"layer {layer.digest}", f"unpacks to more than {most >> 20} MiB", "Make it smaller.")
        except (OSError, EOFError, zlib.error) as problem:
            raise IntegrityError(f"layer {layer.digest}", f"cannot be unpacked ({problem})", _AGAIN) from problem
    return "sha256:" + running.hexdigest(), size
