"""The bill of materials of a container that the model's owner made: what package managers recorded in it, and what nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from fleet.versions import Revision
from registry.bom import bill_of, subject_of
from registry.events import JSON


@dataclass(frozen=True, slots=True)
class Recorded:
    """A package by the kind of its URL (https://github.com/package-url/purl-spec: `deb`, `apk`, `pypi`), its name and version."""

    kind: str
    name: str
    version: str

    @property
    def purl(self) -> str:
        """Its package URL; of a distribution that is not told."""
        return f"pkg:{self.kind}/{quote(self.name, safe='')}@{quote(self.version, safe='')}"


@dataclass(frozen=True, slots=True)
class Untold:
    """The image that the packages are of, and in words what of it cannot be told."""

    image: str
    sentences: tuple[str, ...]


def container_bom(revision: Revision, packages: Sequence[Recorded], untold: Untold, at: datetime) -> bytes:
    """Return the SBOM of a revision's container as canonical JSON; the same content gives the same bytes.

    Its composition is told as incomplete (CycloneDX, `compositions`), and properties say in words what is missing.
    """
    subject = subject_of(revision)
    image = f"container:{untold.image}"
    told: list[JSON] = [{"name": "convoy:not-told", "value": text} for text in untold.sentences]
    components: list[JSON] = [
        {
            "type": "container",
            "bom-ref": image,
            "name": "the owner's container",
            "hashes": [{"alg": "SHA-256", "content": untold.image.removeprefix("sha256:")}],
            "properties": told,
        }
    ]
    unique = {package.purl: package for package in packages}
    for purl, package in sorted(unique.items()):
        components.append({"type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl})
    needs: list[JSON] = [{"ref": subject["bom-ref"], "dependsOn": [image]}, {"ref": image, "dependsOn": sorted(unique)}]
    more: dict[str, JSON] = {"compositions": [{"aggregate": "incomplete", "assemblies": [image]}]}
    return bill_of("environment", revision, at, (subject, components, needs), more)
