"""What an image begins with: an image of another OCI layout, or a folder that is a root file system. Nothing is pulled."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.oci.contents import Contents, in_folder, in_layer
from bentos.oci.kinds import DOCKER_LIST, DOCKER_MANIFEST, INDEX, LAYER, LAYERS, MANIFEST, Descriptor, Platform, elf_architecture
from bentos.oci.layers import system, write_layer
from bentos.oci.layout import Layout
from fleet.errors import InputError, IntegrityError, NotSupported

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEEPEST = 4
"""How deep indexes may name indexes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a base: its platform, Python's version (`3.11`), the digest that fleet.yaml pins, Debian packages."""

    platform: Platform
    python: str
    digest: str | None = None
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Base:
    """A base in the new layout: its layers, their uncompressed digests, its configuration, and where its Python is."""

    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]
    python: str
    digest: str
    config: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()


def base_of(source: Path, asked: Asked, layout: Layout) -> Base:
    """Put a base into a layout and return it.

    Raises InputError for a folder that is neither kind, has another digest, other Debian packages or no such Python;
    NotSupported for a platform that it has not, or a layer that cannot be read here; IntegrityError for wrong bytes.
    """
    if not source.is_dir():
        raise InputError(f"base {source}", "is no folder", "Give an OCI layout, or a folder that is a root file system.")
    return _of_layout(Layout(source), asked, layout) if Layout.is_one(source) else _of_folder(source, asked, layout)


def _of_folder(root: Path, asked: Asked, layout: Layout) -> Base:
    if asked.digest is not None:
        raise InputError(
            f"base {root}",
            f"is a plain folder, and fleet.yaml pins the image {asked.digest} (image.base_image)",
            "Give that image as an OCI layout (skopeo copy --all), or declare no base_image.",
        )
    contents = in_folder(root, asked.python)
    python = _python(contents, asked, PATH, str(root))
    _has_packages(contents, asked, str(root))
    layer = layout.stream(lambda sink: write_layer(system(root), sink), LAYER)
    return Base((layer,), (layer.digest,), python, layer.digest)


def _of_layout(source: Layout, asked: Asked, layout: Layout) -> Base:
    chosen = _chosen(source, asked)
    manifest = source.read(chosen)
    subject = f"base {source.root}"
    config = source.read(Descriptor.of_json(manifest.get("config"), subject))
    layers = tuple(Descriptor.of_json(found, subject) for found in manifest.get("layers", ()))
    diff_ids = tuple(config.get("rootfs", {}).get("diff_ids", ()))
    if not layers or len(layers) != len(diff_ids):
        raise IntegrityError(subject, f"has {len(layers)} layers and names {len(diff_ids)} of them", "Make the layout again.")
    settings = config.get("config") or {}
    contents = Contents()
    taken = []
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        taken.append(layout.take(source, layer, _media_type(layer, subject)))
        contents = contents.over(_read(layout, taken[-1], diff_id, asked))
    python = _python(contents, asked, _path_of(settings.get("Env") or ()), str(source.root))
    _has_packages(contents, asked, str(source.root))
    return Base(tuple(taken), diff_ids, python, chosen.digest, settings, tuple(config.get("history") or ()))


def _media_type(layer: Descriptor, subject: str) -> str:
    try:
        return LAYERS[layer.media_type]
    except KeyError:
        raise NotSupported(subject, f"has a layer of type {layer.media_type}", f"Give one whose layers are {LAYER}+gzip.") from None


def _read(layout: Layout, layer: Descriptor, diff_id: str, asked: Asked) -> Contents:
    """Read a layer that is in the layout, checking that its uncompressed bytes are those that the configuration names."""
    import gzip

    running = hashlib.sha256()
    with layout.open(layer) as raw:
        plain = gzip.GzipFile(fileobj=raw) if layer.media_type.endswith("+gzip") else raw
        try:
            found = in_layer(plain, asked.python, running.update)
        except (tarfile.TarError, OSError, EOFError) as problem:
            raise IntegrityError(f"layer {layer.digest}", f"is no tar ({problem})", "Make the layout again.") from problem
    if "sha256:" + running.hexdigest() != diff_id:
        raise IntegrityError(f"layer {layer.digest}", f"unpacks to other bytes than {diff_id}", "Make the layout again.")
    return found


def _chosen(source: Layout, asked: Asked) -> Descriptor:
    """Return the manifest of the platform that is asked for, within the pinned image where one is."""
    listed = source.manifests()
    if asked.digest is not None:
        listed = tuple(found for found in _everything(source, listed) if found.digest == asked.digest)
        if not listed:
            remedy = "Copy that image into the layout whole (skopeo copy --all)."
            raise InputError(f"base {source.root}", f"holds no image {asked.digest}, which fleet.yaml pins (image.base_image)", remedy)
    images = {found.digest: found for found in _everything(source, listed) if found.media_type in (MANIFEST, DOCKER_MANIFEST)}
    fitting = [found for found in images.values() if _platform(source, found) == asked.platform]
    if not fitting:
        had = sorted({str(_platform(source, found)) for found in images.values()})
        raise NotSupported(
            f"base {source.root}", f"has no image for {asked.platform} (has: {', '.join(had) or 'none'})", "Give another base."
        )
    if len(fitting) > 1:
        told = ", ".join(sorted(found.digest for found in fitting))
        raise InputError(f"base {source.root}", f"has several images for {asked.platform}: {told}", "Pin one in image.base_image.")
    return fitting[0]


def _everything(source: Layout, listed: tuple[Descriptor, ...], depth: int = 0) -> Iterator[Descriptor]:
    """Yield descriptors and those of the indexes among them."""
    for found in listed:
        yield found
        if found.media_type in (INDEX, DOCKER_LIST) and depth < DEEPEST and source.blob(found.digest).is_file():
            inner = source.read(found).get("manifests", [])
            yield from _everything(source, tuple(Descriptor.of_json(each, str(source.root)) for each in inner), depth + 1)


def _platform(source: Layout, manifest: Descriptor) -> Platform | None:
    """Return what an image runs on: as its descriptor says, else as its configuration does; None for one that is not here or no image."""
    told = manifest.more.get("platform")
    if not source.blob(manifest.digest).is_file():
        return None
    if not told:
        config = Descriptor.of_json(source.read(manifest).get("config"), str(source.root))
        told = source.read(config) if config.size > 2 else {}
    found = Platform(str(told.get("architecture")), str(told.get("os")))
    return found if "None" not in (found.architecture, found.os) else None


def _path_of(env: Any) -> str:
    return next((str(each)[5:] for each in env if str(each).startswith("PATH=")), PATH)


def _python(contents: Contents, asked: Asked, path: str, subject: str) -> str:
    """Return the absolute path of the base's interpreter; raises InputError without one, NotSupported for another machine's."""
    name = f"python{asked.python}"
    for folder in path.split(":"):
        where = f"{folder.rstrip('/')}/{name}"
        if (head := contents.head_of(where)) is not None:
            found = elf_architecture(head)
            if found != asked.platform.architecture:
                raise NotSupported(
                    f"base {subject}", f"its {where} is of {found or 'another machine'}, not {asked.platform}", "Give another base."
                )
            return where
    raise InputError(
        f"base {subject}",
        f"has no {name} on its path ({path}), and the environment is one of Python {asked.python}",
        "Give a base with it.",
    )


def _has_packages(contents: Contents, asked: Asked, subject: str) -> None:
    missing = [wanted for wanted in asked.packages if not contents.has_package(wanted)]
    if missing:
        raise NotSupported(
            f"base {subject}",
            f"has no Debian package {', '.join(missing)} (image.system_packages), and none can be installed without a builder",
            "Give a base that has them, or build the image with `bentoml containerize`.",
        )
