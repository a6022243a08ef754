"""The requirements of a Bento, already locked: what is installed where it is built, so that no index is asked.

A model's own pins say what it was logged with; what its gates ran on, and what a local region serves it on, is what is
installed here. Where a pin and the installed version differ the build refuses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from operator import attrgetter

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bentos.lock import gpu_pins, own_pins
from fleet.components import Component
from fleet.errors import InputError
from fleet.pins import Pin

SERVICE, MODEL = "the scoring service", "the model"
"""Who needs what nothing else brings in."""
VARIANT_NEEDS = ("onnxruntime",)
"""What a served variant needs; of the extra `onnx`."""
BESIDE_GPU = {"onnxruntime": "onnxruntime-gpu"}
"""What stands in a package's place where the revision declares a GPU: the same modules, at the same version.

Where both are installed, each overwrites the other's files.
"""
TORCH = "torch"
SERVICE_NEEDS = ("bentoml", "grpcio", "httptools", "mlflow", "numpy", "orjson", "pandas", "protobuf", "uvicorn", "uvloop")
REMEDY = "Log the model with what is installed here, or install what it was logged with."


def locked(model_requirements: Iterable[str], pins: Mapping[str, Pin] | None = None, *, gpu: bool = False) -> tuple[str, ...]:
    """Return `name==version` lines, sorted, of everything that the service and a model need, whatever needs it.

    With `gpu` they are those of an environment beside a GPU. With pins each line carries its hashes. Raises InputError for a
    requirement that is not installed, has another version here, is no requirement, or is not pinned at its version.
    """
    return tuple(_line(found, pins) for found in components(model_requirements, gpu=gpu))


def pins_of(model_requirements: Iterable[str], declared: Mapping[str, Pin] | None, *, gpu: bool = False) -> Mapping[str, Pin] | None:
    """Return the pins by which a model's environment is locked: the declared ones, else Convoy's own where they have all of it.

    None where a package is in neither, since pip takes all hashes or none: the environment is then locked by versions alone.
    """
    if declared is not None:
        return declared
    return _own(gpu) if not unpinned(model_requirements, gpu=gpu) else None


def unpinned(model_requirements: Iterable[str], *, gpu: bool = False) -> tuple[str, ...]:
    """Return `name==version` of what a model's environment has and Convoy's own lock has not."""
    own = _own(gpu)
    found = (component for component in components(model_requirements, gpu=gpu))
    return tuple(f"{each.name}=={each.version}" for each in found if each.name not in own or own[each.name].version != each.version)


def _own(gpu: bool) -> Mapping[str, Pin]:
    return {**own_pins(), **gpu_pins()} if gpu else own_pins()


def components(model_requirements: Iterable[str], *, gpu: bool = False) -> tuple[Component, ...]:
    """Return everything that the service and a model need, sorted by name, each with what it says of its licence.

    With `gpu` it is what an environment beside a GPU has: what stands in a package's place there is not installed here, and
    says of its licence what that package says.

    Raises InputError for a requirement that is not installed, has another version here or is no requirement; where
    somebody else needs the same package otherwise, it names both sides.
    """
    pending: deque[_Demand] = deque(_Demand(Requirement(name), (SERVICE,)) for name in SERVICE_NEEDS)
    pending.extend(_Demand(_parsed(line), (MODEL,)) for line in model_requirements if _is_requirement(line))
    found: dict[str, Component] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    demands: list[_Demand] = []
    while pending:
        demand = pending.popleft()
        demands.append(demand)
        name, extras = demand.name, frozenset(demand.requirement.extras)
        version = _installed(demand.requirement)
        if name not in found:
            found[name] = _component(name, version, demand.through)
        if (name, extras) not in seen:
            seen.add((name, extras))
            pending.extend(_Demand(needed, (*demand.through, name)) for needed in _needs(name, extras))
    # Last, when all that anybody asks for is known
    _reconcile(demands, found)
    served = (_beside_gpu(component) for component in found.values()) if gpu else found.values()
    return tuple(sorted(served, key=attrgetter("name")))


def _beside_gpu(component: Component) -> Component:
    """Return what stands in a package's place beside a GPU, itself where nothing does.

    Raises InputError for another version, and for a PyTorch that could only ever be asked on the CPU.
    """
    if component.name == TORCH and component.version.endswith("+cpu"):
        why = "is built without CUDA, and the model is to be asked on a GPU"
        raise InputError(f"requirement '{TORCH}=={component.version}'", why, f"Install a {TORCH} with CUDA (PyPI's for Linux has it).")
    name = BESIDE_GPU.get(component.name)
    if name is None:
        return component
    version = gpu_pins()[name].version
    if version != component.version:
        why = f"stands in the place of {component.name} beside a GPU, where {component.version} is installed"
        raise InputError(f"requirement '{name}=={version}'", why, f"Install {component.name} {version}.")
    return replace(component, name=name)


@dataclass(frozen=True, slots=True)
class _Demand:
    """A requirement and who has it, outermost first."""

    requirement: Requirement
    through: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(canonicalize_name(self.requirement.name))

    @property
    def told(self) -> str:
        who = " through ".join(dict.fromkeys((self.through[0], self.through[-1])))
        return f"'{self.requirement}' of {who}"


def _reconcile(demands: Iterable[_Demand], found: Mapping[str, Component]) -> None:
    """Raise InputError where what is installed does not meet a requirement, and name who is content with it."""
    demands = tuple(demands)
    for demand in demands:
        version = found[demand.name].version
        if demand.requirement.specifier.contains(version, prereleases=True):
            continue
        others = [each for each in demands if each.name == demand.name and each.through[0] != demand.through[0]]
        # One that says which versions it needs tells more than one that takes any
        other = max(others, key=lambda each: (each.through[0] == SERVICE, bool(each.requirement.specifier)), default=None)
        against = "" if other is None else f"conflicts with {other.told}: "
        raise InputError(f"requirement {demand.told}", f"{against}{version} is installed", REMEDY)


def _component(name: str, version: str, through: tuple[str, ...]) -> Component:
    told = metadata.metadata(name)
    expression, licence = (str(told[key]).strip() if key in told else "" for key in ("License-Expression", "License"))
    classifiers = tuple(text for text in told.get_all("Classifier") or () if text.startswith("License ::"))
    return Component(name, version, expression, licence, classifiers, through)


def _line(component: Component, pins: Mapping[str, Pin] | None) -> str:
    wanted = f"{component.name}=={component.version}"
    if pins is None:
        return wanted
    pin = pins.get(component.name)
    if pin is None or pin.version != component.version:
        raise InputError(f"requirement '{wanted}'", "is not pinned by the lock", "Make the lock again from what is installed.")
    return " ".join((wanted, *(f"--hash={found}" for found in pin.hashes)))


def _is_requirement(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _parsed(line: str) -> Requirement:
    text = line.split(" #")[0].strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement as problem:
        raise InputError(
            f"requirement '{text}'", f"is not a plain requirement ({problem})", "Name packages and versions only."
        ) from problem
    if requirement.url is not None:
        raise InputError(f"requirement '{text}'", "is not a plain requirement (it names a URL)", "Name packages and versions only.")
    return requirement


def _needs(name: str, extras: frozenset[str]) -> list[Requirement]:
    """Return what an installed package needs here: its markers are judged for this interpreter."""
    needed = []
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            needed.append(requirement)
    return needed


def _installed(requirement: Requirement) -> str:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError as problem:
        raise InputError(f"requirement '{requirement}'", "is not installed", REMEDY) from problem
    return version
