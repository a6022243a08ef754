"""The image of a revision: base, environment, service and model as layers, one manifest per platform, an index over them.

The revision's manifest is the subject of the index and of each image (OCI 1.1), so a registry lists them as its referrers.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bentos.build import MODEL_FOLDER, VARIANT_FOLDER
from bentos.oci.base import PATH, Asked, Base, base_of
from bentos.oci.environment import environment_of, python_version
from bentos.oci.kinds import CONFIG, EMPTY, INDEX, LAYER, MANIFEST, REF_NAME, Descriptor, Platform
from bentos.oci.layers import Item, tree, write_layer
from bentos.oci.layout import Layout
from fleet.canonical import short
from fleet.errors import InputError, IntegrityError, OperationFailed
from fleet.manifest import MEDIA_TYPE, Manifest, manifest_named
from fleet.versions import Revision

HOME = "opt/convoy"
REVISION = f"{HOME}/revision"
ENVIRONMENT = f"{HOME}/environment"
REQUIREMENTS = "env/python/requirements.txt"
USER = "65532:65532"
"""Nobody in particular; the number that images without a shell commonly use."""
PORT = 8080
EPOCH = "1970-01-01T00:00:00Z"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Beside:
    """A document that lies beside the image, such as its bill of materials; the image is its subject."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What an image is made of beside the Bento: per platform a base and perhaps an environment; what fleet.yaml pins."""

    bases: Mapping[Platform, Path]
    environments: Mapping[Platform, Path] = field(default_factory=dict)
    base_image: str | None = None
    system_packages: tuple[str, ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    beside: tuple[Beside, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """A written image: its index's digest and bytes, each platform's manifest, what lies beside it, its bytes in all.

    `name` is what tools call it by in the layout (`oci:FOLDER:NAME`).
    """

    digest: str
    name: str
    index: bytes
    manifests: Mapping[Platform, bytes]
    beside: tuple[Beside, ...]
    size: int


def write_image(bento: Path, revision: Revision, ingredients: Ingredients, to: Path, say: Say = lambda text: None) -> Image:
    """Write a Bento as an OCI layout into the new folder `to`; the same ingredients give the same digest.

    Built aside and renamed, so that nobody meets half an image. Raises InputError for a folder that is not empty and what
    the ingredients raise; IntegrityError when the Bento is not the revision.
    """
    manifest = manifest_named(bento, revision.digest)
    if manifest.digest != revision.digest:
        raise IntegrityError(str(bento), f"is {manifest.digest}, not {revision.digest}", "Package the version again.")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(str(to), "is not empty", "Give a new folder.")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}-") as scratch:
            written = _Writer(Layout(Path(scratch) / "layout"), bento, revision, manifest, ingredients).write(Path(scratch), say)
            if to.exists():
                to.rmdir()
            (Path(scratch) / "layout").rename(to)
    except OSError as problem:
        raise OperationFailed(f"image {to}", f"could not be written ({problem})", "Check the folder and its room.") from problem
    return written


@dataclass(frozen=True, slots=True)
class _Writer:
    layout: Layout
    bento: Path
    revision: Revision
    manifest: Manifest
    ingredients: Ingredients

    def write(self, scratch: Path, say: Say) -> Image:
        subject = self.layout.put(self.manifest.to_bytes(), MEDIA_TYPE)
        manifest_file = scratch / "revision.manifest"
        manifest_file.write_bytes(self.manifest.to_bytes())
        say("layers of the service and the model")
        # Bases and environments are per platform, these are one for all
        shared = [self._layer(self._service(manifest_file)), self._layer(self._model())]
        images: dict[Platform, Descriptor] = {}
        for platform in sorted(self.ingredients.bases):
            say(f"base for {platform}")
            base = base_of(self.ingredients.bases[platform], self._asked(platform), self.layout)
            say(f"environment for {platform}")
            environment = self._environment(platform, scratch)
            images[platform] = self._image(platform, base, [environment, *shared], subject)
        name = f"{self.revision.version}-{short(self.revision.digest)}"
        index = self.layout.put_json(self._index(images, subject), INDEX)
        found = [Descriptor(index.media_type, index.digest, index.size, {"annotations": {REF_NAME: name}})]
        found += [self._artifact(beside, index) for beside in self.ingredients.beside]
        self.layout.finish(found)
        size = sum(file.stat().st_size for file in (self.layout.root / "blobs" / "sha256").iterdir())
        manifests = {platform: self.layout.blob(each.digest).read_bytes() for platform, each in images.items()}
        return Image(index.digest, name, self.layout.blob(index.digest).read_bytes(), manifests, self.ingredients.beside, size)

    def _layer(self, items: Iterator[Item]) -> Descriptor:
        return self.layout.stream(lambda sink: write_layer(items, sink), LAYER)

    def _service(self, manifest_file: Path) -> Iterator[Item]:
        yield from tree(self.bento, REVISION, without=(MODEL_FOLDER, VARIANT_FOLDER))
        # Beside the root: inside it the manifest would have to name itself
        yield Item(f"{REVISION}.manifest", 0o644, manifest_file)
        yield Item("tmp", 0o1777)

    def _model(self) -> Iterator[Item]:
        for folder in (MODEL_FOLDER, VARIANT_FOLDER):
            if (self.bento / folder).is_dir():
                yield from tree(self.bento / folder, f"{REVISION}/{folder}")

    def _environment(self, platform: Platform, scratch: Path) -> Descriptor:
        folder = scratch / f"environment-{platform.architecture}"
        given = self.ingredients.environments.get(platform)
        found = environment_of(self.bento / REQUIREMENTS, platform, given, folder)
        layer = self._layer(tree(found, ENVIRONMENT))
        shutil.rmtree(folder)
        return layer

    def _asked(self, platform: Platform) -> Asked:
        pinned = self.ingredients.base_image
        digest = None if pinned is None else pinned.partition("@")[2]
        return Asked(platform, python_version(), digest, self.ingredients.system_packages)

    def _image(self, platform: Platform, base: Base, layers: Sequence[Descriptor], subject: Descriptor) -> Descriptor:
        config = self.layout.put_json(self._config(platform, base, layers), CONFIG)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.as_json(),
            "layers": [layer.as_json() for layer in (*base.layers, *layers)],
            "subject": subject.as_json(),
            "annotations": self._labels() | {"org.opencontainers.image.base.digest": base.digest} | self._base_name(),
        }
        return self.layout.put_json(document, MANIFEST)

    def _config(self, platform: Platform, base: Base, layers: Sequence[Descriptor]) -> dict[str, Any]:
        names = ("environment", "service", "model")
        history = [{"created": EPOCH, "created_by": f"convoy package: {name}"} for name in names]
        return {
            **platform.as_json(),
            "created": EPOCH,
            "config": {
                "User": USER,
                "ExposedPorts": {f"{PORT}/tcp": {}},
                "Env": self._variables(base),
                "Entrypoint": [base.python, "-m", "convoy_service"],
                "WorkingDir": f"/{REVISION}/src",
                "Labels": dict(base.config.get("Labels") or {}) | self._labels(),
                # The one place that is written to: the root may be mounted read-only
                "Volumes": {"/tmp": {}},  # noqa: S108 - a path within the image
                "StopSignal": "SIGTERM",
            },
            "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, *(layer.digest for layer in layers)]},
            "history": [*_history(base), *history],
        }

    def _variables(self, base: Base) -> list[str]:
        had = dict(str(each).partition("=")[::2] for each in base.config.get("Env") or ())
        ours = {
            "PATH": had.get("PATH", PATH),
            "HOME": "/tmp",  # noqa: S108 - a path within the image
            "USER": "convoy",
            "PYTHONPATH": f"/{ENVIRONMENT}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "CONVOY_SERVICE_ROOT": f"/{REVISION}",
            "CONVOY_SERVICE_HOST": "0.0.0.0",  # noqa: S104 - a container is reached from outside, or by nobody
            # A cloud's own name of the port, so that what a cloud or an operator says goes before it
            "SAGEMAKER_BIND_TO_PORT": str(PORT),
            "CONVOY_SERVICE_MODEL": self.revision.model,
            "CONVOY_SERVICE_REVISION": self.revision.digest,
        }
        if self.ingredients.resources.get("gpu"):
            # Asks NVIDIA's container runtime for the devices and the two libraries that inference needs
            ours |= {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
        return [f"{name}={value}" for name, value in sorted((had | ours).items())]

    def _labels(self) -> dict[str, str]:
        labels = {
            "convoy.model": self.revision.model,
            "convoy.version": self.revision.version,
            "convoy.revision": self.revision.digest,
            "org.opencontainers.image.title": self.revision.model,
            "org.opencontainers.image.version": self.revision.version,
        }
        return labels | {f"convoy.resources.{name}": str(value) for name, value in sorted(self.ingredients.resources.items())}

    def _base_name(self) -> dict[str, str]:
        return {"org.opencontainers.image.base.name": self.ingredients.base_image} if self.ingredients.base_image else {}

    def _index(self, images: Mapping[Platform, Descriptor], subject: Descriptor) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [found.as_json() | {"platform": platform.as_json()} for platform, found in sorted(images.items())],
            "subject": subject.as_json(),
            "annotations": self._labels(),
        }

    def _artifact(self, beside: Beside, image: Descriptor) -> Descriptor:
        """Write a document as an artifact whose subject is the image (OCI 1.1, "guidelines for artifact usage")."""
        blob = self.layout.put(beside.data, beside.media_type)
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": beside.media_type,
            "config": self.layout.put(b"{}", EMPTY).as_json(),
            "layers": [blob.as_json()],
            "subject": image.as_json(),
        }
        found = self.layout.put_json(document, MANIFEST)
        return Descriptor(found.media_type, found.digest, found.size, {"artifactType": beside.media_type})


def _history(base: Base) -> list[Mapping[str, Any]]:
    """Return a base's history where it has an entry for each layer, else one that says no more."""
    told = [entry for entry in base.history if not entry.get("empty_layer")]
    plain: Mapping[str, Any] = {"created": EPOCH, "created_by": "convoy package: base"}
    return list(base.history) if len(told) == len(base.layers) else [plain] * len(base.layers)
