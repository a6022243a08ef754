"""Ingredients of images for the tests: bases and environments that are small, and two layouts compared."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bentos.oci.environment import python_version
from bentos.oci.kinds import CONFIG, INDEX, LAYER, MANIFEST, Descriptor, Platform
from bentos.oci.layout import Layout
from fleet.manifest import manifest_of
from fleet.versions import Revision

AMD64, ARM64 = Platform("amd64"), Platform("arm64")
MACHINES = {"amd64": 62, "arm64": 183}
PYTHON = f"python{python_version()}"
STATUS = (
    "Package: libgomp1\nStatus: install ok installed\nVersion: 12.2.0-14\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
)


def elf(architecture: str) -> bytes:
    """The head of a program of an architecture."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, MACHINES[architecture]) + bytes(44)


def root_folder(folder: Path, architecture: str = "amd64") -> Path:
    """A root file system with a program called Python, reached through links as Debian has them."""
    (folder / "usr/bin").mkdir(parents=True)
    (folder / "usr/bin" / PYTHON).write_bytes(elf(architecture))
    (folder / "usr/bin" / PYTHON).chmod(0o4755)
    (folder / "bin").symlink_to("usr/bin")
    (folder / "usr/bin/python3").symlink_to(PYTHON)
    (folder / "var/lib/dpkg").mkdir(parents=True)
    (folder / "var/lib/dpkg/status").write_text(STATUS)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
    return folder


def stub_environment(folder: Path, bento: Path, **files: bytes) -> Path:
    """What is said of each package that a Bento needs, without the packages themselves."""
    for line in (bento / "env/python/requirements.txt").read_text().splitlines():
        name, _, version = line.split(" ")[0].partition("==")
        if not version:
            continue
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(f"{info.name}/METADATA,,\n../../bin/{name},,\n")
    for name, data in files.items():
        (folder / f"{name}.so").write_bytes(data)
    return folder


def revision_of(bento: Path) -> Revision:
    return Revision("employment", "3", manifest_of(bento).digest)


def layer_of(files: Mapping[str, bytes | str], packed: bool = True) -> tuple[bytes, str]:
    """A layer's blob and its uncompressed digest; a text is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    data = buffer.getvalue()
    return gzip.compress(data, mtime=0) if packed else data, "sha256:" + hashlib.sha256(data).hexdigest()


def base_layout(folder: Path, *platforms: Platform, **config: Any) -> tuple[Path, str]:
    """A base image in a layout of its own, for some platforms; gives its index's digest."""
    layout = Layout(folder)
    images = []
    for platform in platforms:
        layers = [
            layer_of({"usr/bin/" + PYTHON: elf(platform.architecture), "bin": "usr/bin"}),
            layer_of({"var/lib/dpkg/status": STATUS.encode()}),
        ]
        taken = [layout.put(data, f"{LAYER}+gzip").as_json() for data, _ in layers]
        settings = {
            "Env": ["PATH=/opt/nothing:/usr/bin", "CUDA_VERSION=12.4"],
            "Labels": {"maintainer": "somebody"},
            "User": "root",
        } | config
        document = {**platform.as_json(), "config": settings, "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]}}
        made = layout.put_json(document, CONFIG)
        manifest = layout.put_json({"schemaVersion": 2, "mediaType": MANIFEST, "config": made.as_json(), "layers": taken}, MANIFEST)
        images.append(manifest.as_json() | {"platform": platform.as_json()})
    index = layout.put_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": images}, INDEX)
    layout.finish([index])
    return folder, index.digest


def only_image(folder: Path) -> dict[str, Any]:
    """The index of the image in a layout that we wrote."""
    return dict(Layout(folder).read(Layout(folder).manifests()[0]))


def image_for(folder: Path, platform: Platform) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the configuration of one platform's image."""
    layout = Layout(folder)
    found = next(each for each in only_image(folder)["manifests"] if each["platform"] == platform.as_json())
    manifest = layout.read(Descriptor.of_json(found, "index"))
    return manifest, layout.read(Descriptor.of_json(manifest["config"], "manifest"))


def entries(folder: Path, layer: Mapping[str, Any]) -> dict[str, tarfile.TarInfo]:
    """What a layer that we wrote holds."""
    with tarfile.open(Layout(folder).blob(layer["digest"])) as tar:
        return {member.name: member for member in tar}


def same(first: Path, second: Path) -> bool:
    """Whether two folders hold the same files."""
    return manifest_of(first) == manifest_of(second)


def refs(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "index.json").read_text())["manifests"])
