"""What an OCI layout is made of: media types, descriptors and platforms.

https://github.com/opencontainers/image-spec/blob/v1.1.1/spec.md
"""

from __future__ import annotations

import platform as machine
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.errors import InputError, IntegrityError, NotSupported

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
LAYERS = {
    LAYER: LAYER,
    f"{LAYER}+gzip": f"{LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
}
"""Layers that can be read, and what each is called in an OCI manifest."""
REF_NAME = "org.opencontainers.image.ref.name"
ARCHITECTURES = ("amd64", "arm64")
_HERE = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_ELF = {62: "amd64", 183: "arm64"}
"""Machines in an ELF header (elf(5), `e_machine`)."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What names a blob: its media type, `sha256:<hex>` and its size in bytes; `more` are further keys of its JSON."""

    media_type: str
    digest: str
    size: int
    more: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in an index or a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **self.more}

    @classmethod
    def of_json(cls, found: Any, subject: str) -> Descriptor:
        """Return the descriptor that a document of others holds; raises IntegrityError for one that cannot be one."""
        try:
            media_type, digest, size = found["mediaType"], found["digest"], found["size"]
            if not (isinstance(media_type, str) and isinstance(size, int) and size >= 0 and _DIGEST.fullmatch(digest)):
                raise ValueError("of other types")
            more = {key: value for key, value in found.items() if key not in ("mediaType", "digest", "size")}
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise IntegrityError(subject, f"has a descriptor that is none ({problem})", "Make the layout again.") from problem
        return cls(media_type, digest, size, more)


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """What an image runs on: Linux on an architecture."""

    architecture: str
    os: str = "linux"

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"

    def as_json(self) -> dict[str, str]:
        """Return it as it stands in an image index."""
        return {"architecture": self.architecture, "os": self.os}


def platform_of(text: str) -> Platform:
    """Return the platform of `linux/amd64` or `amd64`; raises InputError that lists the known ones."""
    architecture = text.removeprefix("linux/")
    if architecture not in ARCHITECTURES:
        known = ", ".join(f"linux/{name}" for name in ARCHITECTURES)
        raise InputError(f"platform '{text}'", f"is not known (known: {known})", "Correct --platform.")
    return Platform(architecture)


def this_platform() -> Platform:
    """Return the platform whose programs run here; raises NotSupported for a machine that is neither of the known ones."""
    try:
        return Platform(_HERE[machine.machine().lower()])
    except KeyError:
        raise NotSupported("this machine", f"is {machine.machine()}, for which no image is made", "Name --platform.") from None


def elf_architecture(head: bytes) -> str | None:
    """Return the architecture that the first 20 bytes of an ELF file name, None for another file or another machine."""
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return _ELF.get(int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"))
