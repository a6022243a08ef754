"""Builds the revision of a model version that is served by its owner's container: the image's layout and the model, one digest.

Nothing of the image is run, and nothing is installed; two builds of the same image and the same model agree.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bentos.build import MODEL_FOLDER
from bentos.container.image import BOUNDS, Image, image_of, take
from bentos.oci.layout import Layout
from bentos.oci.unpack import SHOWN, unpack_image
from fleet.contained import DOCUMENT, LAYOUT, MOST_BYTES, Contained, contained_in, root_digest, root_of
from fleet.cutting import in_blocks
from fleet.errors import InputError, IntegrityError, OperationFailed
from fleet.manifest import Manifest, manifest_of

PLACES = ("dev", "proc", "tmp", "opt/convoy/revision")
"""What is shown to a container beside its own files: folders that its root must have, or get."""
MEMORY_BYTES = 4 << 30
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """Which container is taken: the folder of its layout, the digest of its image, and what it may have resident."""

    layout: Path
    digest: str
    memory_bytes: int = MEMORY_BYTES


def build_contained(model_folder: Path, name: str, version: str, to: Path, asked: Asked) -> Manifest:
    """Make the revision of a downloaded MLflow model and a container in the folder `to`, and return its manifest.

    Raises InputError for a folder that is no MLflow model, a `to` that is not empty, and an image that cannot be served;
    IntegrityError for wrong bytes, for what is no file, folder or link, and for a link in the model.
    """
    model = manifest_of(model_folder, in_blocks)
    if not (model_folder / "MLmodel").is_file():
        raise InputError(str(model_folder), "is not an MLflow model: it has no file MLmodel", "Download the model version again.")
    if to.exists() and any(to.iterdir()):
        raise InputError(str(to), "is not empty", "Give a new folder.")
    source = Layout(asked.layout)
    image = image_of(source, asked.digest)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
            staged = Path(scratch) / "staged"
            take(source, image, Layout(staged / LAYOUT))
            told = _described(image, make_root(Layout(staged / LAYOUT), image, Path(scratch) / "root"), asked.memory_bytes)
            for entry in model.entries:
                _copy(model_folder / entry.path, staged / MODEL_FOLDER / entry.path)
            (staged / "src" / "revision.json").write_text(json.dumps({"model": name, "version": version}) + "\n", encoding="utf-8")
            (staged / DOCUMENT).write_bytes(_document(told))
            _plain(staged)
            shutil.copytree(staged, to, dirs_exist_ok=True)
    except OSError as problem:
        raise OperationFailed(
            f"container {asked.digest}", f"could not be packaged ({problem})", "Check the folder and its room."
        ) from problem
    return manifest_of(to)


def make_root(layout: Layout, image: Image, to: Path) -> str:
    """Lay the image's root into a new folder, with the places that it is shown things at, and return its digest.

    Raises IntegrityError for what leaves the root, for devices, for more than an image may have, for files that raise the
    rights of who runs them, and for a place that is no folder.
    """
    raising = unpack_image(layout, dict(image.document), to, BOUNDS)
    if raising:
        more = f" and {len(raising) - MOST_NAMED} more" if len(raising) > MOST_NAMED else ""
        raise IntegrityError(
            f"container {image.manifest.digest}",
            f"has files that give rights to whoever runs them: {', '.join(raising[:MOST_NAMED])}{more}",
            "Take the bits away in the image: RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} +",
        )
    for place in PLACES:
        _make_place(to, place)
    return root_digest(to)


def lay_root(revision: Path) -> Path:
    """Have the root of an unpacked revision's container beside it, whole or not at all, and return where; one that is there is kept.

    Raises IntegrityError where the layers do not give the root that the revision names; OperationFailed without room.
    """
    told, to = contained_in(revision), root_of(revision)
    layout = Layout(revision / LAYOUT)
    try:
        if to.exists():
            return to
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
            aside = Path(scratch) / "root"
            found = make_root(layout, image_of(layout, told.image), aside)
            if found != told.root:
                raise IntegrityError(f"container {told.image}", f"gives the root {found}, not {told.root}", "Package the version again.")
            aside.rename(to)
    except OSError as problem:
        why = f"could not be laid out beside its revision ({str(problem)[:SHOWN]})"
        raise OperationFailed(f"container {told.image}", why, "Check the folder and its room.") from problem
    return to


def _described(image: Image, root: str, memory_bytes: int) -> Contained:
    return Contained(image.manifest.digest, image.architecture, image.words, image.variables, image.folder, root, memory_bytes)


def _document(told: Contained) -> bytes:
    document = told.to_bytes()
    if len(document) >= MOST_BYTES:
        raise InputError(
            f"container {told.image}", f"has a command and variables that are longer than {MOST_BYTES} bytes", "Put them into a file."
        )
    return document


def _make_place(root: Path, place: str) -> None:
    """Have a folder in the root, through no link: what is shown there must not land elsewhere."""
    here = root
    for part in place.split("/"):
        here /= part
        if here.is_symlink() or (here.exists() and not here.is_dir()):
            raise IntegrityError(f"/{place}", "is no folder in the image, and a container is shown things there", "Make it a folder.")
        if not here.exists():
            here.mkdir()
            here.chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _plain(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
