"""Bills of materials of a revision, CycloneDX 1.6 as JSON: its environment (SBOM), and its model with data (ML-BOM).

They are written by hand, since no library writes model cards, and each is checked against CycloneDX's own schema
(`registry/schemas/`) before anybody gets it. https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import gzip
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fleet.canonical import canonical_json
from fleet.errors import InputError, OperationFailed
from fleet.versions import Revision
from registry.events import JSON, stamp

SPEC = "1.6"
SCHEMAS = Path(__file__).parent / "schemas"
MOST_REASONS = 10
Parts = tuple[Mapping[str, JSON], Sequence[JSON], Sequence[JSON]]
NOTHING: Mapping[str, JSON] = {}
_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Package:
    """One locked package: `licence` as its metadata says it, `hashes` (hex SHA-256) of the files that the lock allows, `needs` by name.

    `known` is whether that very version is installed here; of one that is not, licence and needs are not known.
    """

    name: str
    version: str
    licence: str = ""
    is_expression: bool = False
    hashes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    known: bool = True

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Data:
    """A data set: `digest` is `sha256:<hex>`, `source` where it is kept, in words or as a revision."""

    name: str
    digest: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is for: `task` such as classification, `metrics` as (name, decimal text), considerations in sentences."""

    task: str = ""
    datasets: tuple[Data, ...] = ()
    metrics: tuple[tuple[str, str], ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    use_cases: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    ethical: tuple[str, ...] = ()


def packages_of(lines: Iterable[str]) -> tuple[Package, ...]:
    """Return the packages of a lock (`name==version`, perhaps with `--hash=sha256:`), each once, sorted.

    One may be there in two versions, for different systems. Raises InputError for any other line.
    """
    found: dict[str, Package] = {}
    for text in " ".join(_whole_lines(lines)).split("\0"):
        if text.strip():
            package = _package(text)
            # BentoML names itself once more
            known = found.get(package.purl, package)
            found[package.purl] = replace(known, hashes=tuple(sorted({*known.hashes, *package.hashes})))
    return tuple(found[purl] for purl in sorted(found))


def environment_bom(revision: Revision, packages: Sequence[Package], at: datetime) -> bytes:
    """Return the SBOM of a revision's environment as canonical JSON; the same content gives the same bytes."""
    subject = subject_of(revision)
    known = {package.name: package.purl for package in packages}
    dependencies: list[JSON] = [{"ref": subject["bom-ref"], "dependsOn": sorted(known.values())}]
    dependencies += [
        {"ref": package.purl, "dependsOn": sorted(known[name] for name in package.needs if name in known)} for package in packages
    ]
    return bill_of("environment", revision, at, (subject, [_component(package) for package in packages], dependencies))


def model_bom(revision: Revision, card: ModelCard, at: datetime) -> bytes:
    """Return the ML-BOM of a revision: a component machine-learning-model with its card, and its data sets with their digests."""
    subject = subject_of(revision) | {"modelCard": _card(card)}
    data: list[JSON] = [_data(found) for found in card.datasets]
    dependencies: list[JSON] = [{"ref": subject["bom-ref"], "dependsOn": sorted({_ref(found) for found in card.datasets})}]
    return bill_of("model", revision, at, (subject, data, dependencies))


def problems(bom: bytes) -> tuple[str, ...]:
    """Return in what a bill of materials is not CycloneDX 1.6, nothing when it is: by the schema, and by references that lead nowhere."""
    from jsonschema import Draft7Validator

    try:
        document = json.loads(bom)
    except ValueError:
        return ("it is no JSON",)
    found = Draft7Validator(_schema("bom-1.6"), registry=_schemas()).iter_errors(document)
    told = [f"{'/'.join(map(str, error.absolute_path)) or 'document'}: {error.message[:200]}" for error in found]
    if not told:
        told = list(_dangling(document))
    return tuple(told[:MOST_REASONS])


def bill_of(about: str, revision: Revision, at: datetime, parts: Parts, more: Mapping[str, JSON] = NOTHING) -> bytes:
    """Return a bill about a revision as canonical JSON: its subject, components and dependencies, and `more` of the standard's keys.

    Raises OperationFailed for one that CycloneDX's schema refuses.
    """
    subject, components, needs = parts
    content: dict[str, JSON] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {"timestamp": stamp(at), "component": subject},
        "components": components,
        "dependencies": needs,
        **more,
    }
    # Named by what it says, so that the same said again is the same document
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{about} {revision.digest} {canonical_json(content).decode()}")
    bom = canonical_json(content | {"serialNumber": f"urn:uuid:{name}"})
    if wrong := problems(bom):
        raise OperationFailed(
            f"{about} BOM of {revision.digest}", f"is not CycloneDX {SPEC}: {'; '.join(wrong)}", "Look at what it was made of."
        )
    return bom


def subject_of(revision: Revision) -> dict[str, JSON]:
    """Return a revision as the component that a bill is about."""
    return {
        "type": "machine-learning-model",
        "bom-ref": f"revision:{revision.digest}",
        "name": revision.model,
        "version": revision.version,
        "hashes": [_hash(revision.digest)],
    }


def _component(package: Package) -> dict[str, JSON]:
    found: dict[str, JSON] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "purl": package.purl,
    }
    if package.licence:
        text = package.licence
        found["licenses"] = [{"expression": text} if package.is_expression else {"license": {"name": text}}]
    if len(package.hashes) == 1:
        found["hashes"] = [_hash(package.hashes[0])]
    told: list[JSON] = []
    if len(package.hashes) > 1:
        # Which of the files was installed is not known: all that the lock allows are told
        told.append({"name": "convoy:allowed-sha256", "value": " ".join(package.hashes)})
    if not package.known:
        told.append({"name": "convoy:metadata", "value": "not installed where this was written: licence and needs are not known"})
    return found | ({"properties": told} if told else {})


def _card(card: ModelCard) -> dict[str, JSON]:
    parameters: dict[str, JSON] = {
        "datasets": [{"ref": _ref(data)} for data in card.datasets],
        "inputs": [{"format": text} for text in card.inputs],
        "outputs": [{"format": text} for text in card.outputs],
    }
    if card.task:
        parameters["task"] = card.task
    considerations: dict[str, JSON] = {
        "users": list(card.users),
        "useCases": list(card.use_cases),
        "technicalLimitations": list(card.limitations),
        "ethicalConsiderations": [{"name": text} for text in card.ethical],
    }
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": [{"type": name, "value": value} for name, value in card.metrics]},
        "considerations": considerations,
    }


def _data(data: Data) -> dict[str, JSON]:
    found: dict[str, JSON] = {"type": "data", "bom-ref": _ref(data), "name": data.name, "hashes": [_hash(data.digest)]}
    return found | ({"description": data.source} if data.source else {})


def _ref(data: Data) -> str:
    return f"data:{data.name}@{data.digest}"


def _hash(digest: str) -> dict[str, JSON]:
    return {"alg": "SHA-256", "content": digest.removeprefix("sha256:")}


def _whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield requirements with their continued lines, each ended by a NUL."""
    for line in lines:
        text = line.split(" #")[0].strip()
        if text and not text.startswith("#"):
            yield text.removesuffix("\\") if text.endswith("\\") else f"{text}\0"


def _package(text: str) -> Package:
    requirement, *options = text.split(" --hash=")
    told = (_SHA256.fullmatch(option.strip()) for option in options)
    hashes = tuple(sorted(found[1] for found in told if found))
    try:
        parsed = Requirement(requirement.strip())
    except ValueError as problem:
        raise InputError(
            f"requirement '{requirement.strip()}'", f"is no locked requirement ({problem})", "Lock it: name==version."
        ) from problem
    pins = [found.version for found in parsed.specifier if found.operator == "==" and not found.version.endswith("*")]
    if len(pins) != 1 or len(parsed.specifier) != 1:
        raise InputError(f"requirement '{requirement.strip()}'", "is not locked to one version", "Lock it: name==version.")
    return _described(str(canonicalize_name(parsed.name)), pins[0], hashes)


def _described(name: str, version: str, hashes: tuple[str, ...]) -> Package:
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return Package(name, version, hashes=hashes, known=False)
    if installed.version != version:
        return Package(name, version, hashes=hashes, known=False)
    try:
        expression = _stated(installed, "License-Expression")
        needs = {str(canonicalize_name(found.name)) for found in map(Requirement, installed.requires or ()) if _is_needed(found)}
        return Package(name, version, expression or _plain_licence(installed), bool(expression), hashes, tuple(sorted(needs)))
    except (ValueError, UndefinedEnvironmentName):
        # Whoever made the package wrote what nobody can read
        return Package(name, version, hashes=hashes, known=False)


def _is_needed(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _plain_licence(installed: metadata.Distribution) -> str:
    """Return a licence as older metadata has it: by its classifier, else the first line of what may be the whole text."""
    classified = [text.rpartition(" :: ")[2] for text in installed.metadata.get_all("Classifier") or () if text.startswith("License :: ")]
    return " and ".join(classified) or _stated(installed, "License").strip().partition("\n")[0][:200]


def _stated(installed: metadata.Distribution, name: str) -> str:
    return str((installed.metadata.get_all(name) or [""])[0])


def _schema(name: str) -> Any:
    with gzip.open(SCHEMAS / f"cyclonedx-{name}.schema.json.gz") as file:
        return json.load(file)


def _schemas() -> Any:
    from referencing import Registry, Resource

    refers = {"spdx": "spdx", "jsf-0.82": "jsf-0.82"}
    resources = [
        (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", Resource.from_contents(_schema(file))) for name, file in refers.items()
    ]
    return Registry().with_resources(resources)


def _dangling(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield references that lead nowhere and names that stand twice, which a schema cannot see."""
    components = [document.get("metadata", {}).get("component", {}), *document.get("components", [])]
    names = [component["bom-ref"] for component in components if "bom-ref" in component]
    yield from (f"bom-ref {name!r} stands {names.count(name)} times" for name in sorted({name for name in names if names.count(name) > 1}))
    used = {ref for found in document.get("dependencies", []) for ref in (found["ref"], *found.get("dependsOn", []))}
    cards = (component.get("modelCard", {}).get("modelParameters", {}).get("datasets", []) for component in components)
    used |= {data["ref"] for datasets in cards for data in datasets if "ref" in data}
    yield from (f"{ref!r} is referred to and not there" for ref in sorted(used - set(names)))
