"""A revision as an OCI layout of the CNCF ModelPack format: one layer for each file, so that other tools can read, push and pull it.

It is derived from a stored revision and read by nobody of ours; the same revision always has the same digest, since nothing in
it has a time. A file's layer has the file's own digest. https://github.com/modelpack/model-spec, docs/spec.md, schema/config-schema.json
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from bentos.oci.kinds import MANIFEST, REF_NAME, Descriptor
from bentos.oci.layers import Sink
from bentos.oci.layout import Layout
from fleet.canonical import canonical_json, digest_of, short
from fleet.cutting import by_content, in_blocks
from fleet.errors import IntegrityError
from fleet.manifest import Cut, Entry, Manifest, Part, safe_path
from fleet.versions import Revision

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHT, WEIGHT_CONFIG, CODE, DOC = (f"application/vnd.cncf.model.{kind}.v1.raw" for kind in ("weight", "weight.config", "code", "doc"))
FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
REVISION = "convoy.revision"
_KINDS = {
    **dict.fromkeys((".py", ".sh", ".ipynb"), CODE),
    **dict.fromkeys((".json", ".yaml", ".yml", ".toml", ".txt", ".cfg", ".ini", ".jinja", ".lock"), WEIGHT_CONFIG),
    **dict.fromkeys((".md", ".rst", ".html", ".pdf"), DOC),
}
_NAMES = {"MLmodel": WEIGHT_CONFIG, "LICENSE": DOC, "NOTICE": DOC, "README": DOC}
_REGULAR = ord("0")
"""What tar(5) calls a plain file, which is how the format names it."""
REMEDY = "Export the revision again."
EPOCH = "1970-01-01T00:00:00Z"

Read = Callable[[str], bytes]


def write_modelpack(manifest: Manifest, revision: Revision, read: Read, to: Path) -> Descriptor:
    """Write a revision into a new folder as an OCI layout and return what its manifest is called; `read` gives a part's checked bytes.

    What was written is read back: raises IntegrityError when it is not the revision.
    """
    layout = Layout(to)
    layers = [_layer(layout, entry, read) for entry in manifest.entries]
    config = layout.put_json(_config(revision, layers), CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
        "annotations": {TITLE: revision.model, VERSION: revision.version, REVISION: revision.digest},
    }
    found = layout.put_json(document, MANIFEST)
    name = {REF_NAME: f"{revision.version}-{short(revision.digest)}", REVISION: revision.digest}
    told = Descriptor(MANIFEST, found.digest, found.size, {"artifactType": ARTIFACT, "annotations": name})
    layout.finish([told])
    back = read_modelpack(to)
    if back.digest != revision.digest:
        raise IntegrityError(str(to), f"holds {back.digest} and not {revision.digest}", "Look at the disk; then write it again.")
    return told


def read_modelpack(folder: Path) -> Manifest:
    """Return the manifest of the revision that a layout holds, every layer read and checked, whoever synced it here.

    Raises InputError for a folder that is no layout, IntegrityError for one that holds no revision or other bytes.
    """
    layout = Layout(folder)
    document = layout.read(layout.manifests()[0])
    try:
        if document["artifactType"] != ARTIFACT:
            raise ValueError(f"its artifact type is {document['artifactType']!r}")
        layers = [Descriptor.of_json(layer, str(folder)) for layer in document["layers"]]
        said = document["annotations"][REVISION]
        found = _cut(layout, layers, by_content)
        if found.digest != said:
            # As revisions of earlier versions were cut
            earlier = _cut(layout, layers, in_blocks)
            found = earlier if earlier.digest == said else found
    except (KeyError, TypeError, ValueError) as problem:
        raise IntegrityError(
            str(folder), f"holds no revision in the ModelPack format ({problem})", "Export the revision again."
        ) from problem
    if found.digest != said:
        raise IntegrityError(str(folder), f"says that it is {said}, and its files are {found.digest}", REMEDY)
    return found


def _layer(layout: Layout, entry: Entry, read: Read) -> Descriptor:
    def write(sink: Sink) -> None:
        for part in entry.parts:
            sink.write(read(part.digest))

    written = layout.stream(write, _kind(entry.path))
    if (written.digest, written.size) != (entry.digest, entry.size):
        raise IntegrityError(entry.path, f"its parts do not make {entry.digest}", "Package the version again.")
    metadata = {"name": entry.path, "mode": entry.mode, "uid": 0, "gid": 0, "size": entry.size, "mtime": EPOCH, "typeflag": _REGULAR}
    told = {TITLE: entry.path, FILE_PATH: entry.path, FILE_METADATA: canonical_json(metadata).decode()}
    return Descriptor(written.media_type, written.digest, written.size, {"annotations": told})


def _config(revision: Revision, layers: list[Descriptor]) -> dict[str, Any]:
    return {
        "descriptor": {"name": revision.model, "version": revision.version, "revision": revision.digest},
        "config": {"format": "bento"},
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
    }


def _cut(layout: Layout, layers: list[Descriptor], cut: Cut) -> Manifest:
    return Manifest(tuple(sorted((_entry(layout, layer, cut) for layer in layers), key=lambda entry: entry.path)))


def _entry(layout: Layout, layer: Descriptor, cut: Cut) -> Entry:
    """Return what a layer is as a file of the revision; raises IntegrityError for other bytes than its name says."""
    told = layer.more["annotations"]
    metadata = json.loads(told[FILE_METADATA])
    layout.check(layer)
    parts: list[Part] = []
    with layout.open(layer) as file:
        parts += [Part(digest_of(chunk), len(chunk)) for chunk in cut(file, layer.size)]
    size = sum(part.size for part in parts)
    return Entry(safe_path(str(told[FILE_PATH])), 0o755 if int(metadata["mode"]) & 0o100 else 0o644, size, layer.digest, tuple(parts))


def _kind(path: str) -> str:
    """Return what a file is to those who know the format: code, documents, configuration, and weights for whatever else."""
    name = PurePosixPath(path)
    return _NAMES.get(name.name) or _KINDS.get(name.suffix.lower(), WEIGHT)
