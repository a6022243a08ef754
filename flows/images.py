"""Packaging a version without releasing it: the Bento that a release would make, and its image, kept beside the revision."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bentos.archive import SUFFIX, write_archive
from bentos.build import bento_name, build, needed_by
from bentos.oci.image import REQUIREMENTS, Beside, Image, Ingredients, write_image
from bentos.oci.kinds import Platform, this_platform
from bentos.oci.loading import Loading, load
from bentos.requirements import unpinned
from fleet.declared import Model
from fleet.errors import InputError, OperationFailed
from fleet.versions import Revision
from flows.containing import build_declared
from flows.gating import Source
from flows.house import House
from flows.optimising import make_served_variant
from flows.rights import build_options
from registry.bom import environment_bom, packages_of
from registry.referrers import BOM, IMAGE, IMAGE_INDEX, TUNING, VARIANT, attach, copy_referrers, documents

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""When the bill of an image is dated: it is part of the image, which has no time."""
MOST_TOLD = 400
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """Which image is wanted: the new folder, per platform a base and perhaps an environment, and whether it is loaded."""

    to: Path
    bases: Mapping[Platform, Path]
    environments: Mapping[Platform, Path] = field(default_factory=dict)
    load: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is packaged: a version of a model, and perhaps an image.

    `out` is a new folder for the Bento, or a file for it whose name ends in `.bento`; without, only its digest is wanted.
    """

    model: str
    version: str
    out: Path | None = None
    image: ImageOrder | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packaged; `unhashed` names what keeps the environment from being locked by hash, `loaded_by` the tool."""

    revision: Revision
    files: int
    size: int
    unhashed: tuple[str, ...]
    stored: bool
    image: Image | None = None
    loaded_by: str | None = None


def package_version(house: House, order: Order, say: Say) -> Packed:
    """Make the Bento of a version as a release makes it, with the same digest, and its image where one is wanted.

    Nothing is released, stored or pointed to; an image's manifests and bill of materials are kept beside the revision.
    Raises InputError before anything is fetched for folders that are taken or cannot be made; UnknownName; what building
    raises; OperationFailed where there is no room.
    """
    declared = house.model(order.model)
    _check(order)
    _check_container(declared, order)
    with _room_for(order), tempfile.TemporaryDirectory(prefix="convoy-package-") as scratch:
        say(f"fetching version {order.version} from MLflow")
        folder = Path(scratch) / "source"
        version = house.models.version(order.model, order.version)
        source = Source(version, folder, house.models.download(version, folder).digest, None)
        if declared.optimise is not None and declared.optimise.serve is not None:
            say(f"making the variant {declared.optimise.serve}")
        variant = make_served_variant(house, declared, source, Path(scratch) / "variants")
        options = replace(build_options(declared, house.fleet_file.parent), variant=variant)
        packed_file = order.out if order.out is not None and order.out.suffix == SUFFIX else None
        bento = Path(scratch) / "bento" if order.out is None or packed_file else order.out
        if declared.image.container is not None:
            say("taking the container")
            manifest = build_declared(declared, house.fleet_file.parent, folder, (order.model, order.version), bento)
            revision = Revision(order.model, order.version, manifest.digest)
            return Packed(revision, len(manifest.entries), manifest.size, (), house.origin.has_blob(revision.digest))
        say("building the Bento")
        manifest = build(folder, order.model, order.version, bento, options)
        if packed_file is not None:
            say("packing the Bento into one file")
            write_archive(bento, packed_file)
        revision = Revision(order.model, order.version, manifest.digest)
        unhashed = () if options.pins is not None else unpinned(needed_by(folder, variant is not None), gpu=options.gpu)
        stored = house.origin.has_blob(revision.digest)
        if order.image is None:
            return Packed(revision, len(manifest.entries), manifest.size, unhashed, stored)
        image = write_image(bento, revision, _ingredients(house, order.image, bento, revision), order.image.to, say)
        say("keeping the image's manifests beside the revision")
        keep_image(house, revision, image)
        loaded = _load(order.image, revision, image, say) if order.image.load else None
        return Packed(revision, len(manifest.entries), manifest.size, unhashed, stored, image, loaded)


def keep_image(house: House, revision: Revision, image: Image) -> None:
    """Keep an image's index and manifests beside its revision, in the origin store and in every region that has the revision."""
    attach(house.origin, revision.digest, IMAGE_INDEX, image.index)
    for manifest in image.manifests.values():
        attach(house.origin, revision.digest, IMAGE, manifest)
    for data in image.beside:
        attach(house.origin, revision.digest, data.media_type, data.data)
    for region in house.model(revision.model).regions:
        if house.has_store(region) and (store := house.region_store(region)).has_blob(revision.digest):
            copy_referrers(revision.digest, house.origin, store)


@contextmanager
def _room_for(order: Order) -> Iterator[None]:
    """Raise OperationFailed where what is packaged cannot be written."""
    try:
        yield
    except OSError as problem:
        subject = f"the package of {order.model} version {order.version}"
        # Of a whole tree it tells every file
        why = " ".join(str(problem).split())[:MOST_TOLD]
        raise OperationFailed(subject, f"could not be written ({why})", "Make room there and below TMPDIR, and try again.") from problem


def _check(order: Order) -> None:
    folders = [folder for folder in (order.out, order.image.to if order.image else None) if folder is not None]
    for folder in folders:
        _check_new(folder)
    if order.out is not None and order.out.suffix == SUFFIX and order.out.exists():
        raise InputError(str(order.out), "is there already", "Give a new name.")
    if len(folders) > 1:
        bento, image = (folder.resolve() for folder in folders)
        if bento.is_relative_to(image) or image.is_relative_to(bento):
            raise InputError(str(folders[1]), f"and {folders[0]} lie in one another", "Give a folder of its own to each.")
    if order.image and order.image.load and this_platform() not in order.image.bases:
        raise InputError("--load", f"needs an image for {this_platform()}, where it would run", "Add --platform.")


def _check_container(declared: Model, order: Order) -> None:
    """Raise InputError for what is made of a Bento, where the model has a container of its own and no Bento."""
    if declared.image.container is not None and (order.image is not None or (order.out is not None and order.out.suffix == SUFFIX)):
        raise InputError(
            f"model '{order.model}'",
            "is served by a container of its own, so there is no Bento",
            "Give a folder, or copy the layout itself.",
        )


def _check_new(folder: Path) -> None:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(str(folder), "is not empty", "Give a new folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-"):
            pass
    except OSError as problem:
        raise InputError(str(folder), f"cannot be made ({problem.strerror})", "Give a folder where you may write.") from problem


def _ingredients(house: House, order: ImageOrder, bento: Path, revision: Revision) -> Ingredients:
    """Return what the image is made of; beside it lie its bill and what is known of the revision's tuning and variants."""
    lock = (bento / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    bill = Beside(BOM, environment_bom(revision, packages_of(lock), EPOCH))
    known = [Beside(kind, data) for kind in (TUNING, VARIANT) for data in documents(house.origin, revision.digest, kind)]
    image = house.model(revision.model).image
    beside = (bill, *known)
    return Ingredients(order.bases, order.environments, image.base_image, image.system_packages, image.resources.asked(), beside)


def _load(order: ImageOrder, revision: Revision, image: Image, say: Say) -> str:
    say("loading the image")
    reference = f"convoy/{bento_name(revision.model)}:{image.name}"
    manifest = image.manifests[this_platform()]
    return load(Loading(order.to, image.name, manifest, reference))
