"""The requirements of a Bento, already locked: what is installed where it is built, so that no index is asked.

A model's own pins say what it was logged with; what its gates ran on, and what a local region serves it on, is what is
installed here. Where a pin and the installed version differ the build refuses.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from fleet.errors import InputError

SERVICE_NEEDS = ("bentoml", "httptools", "mlflow", "numpy", "orjson", "pandas", "uvicorn", "uvloop")
REMEDY = "Log the model with what is installed here, or install what it was logged with."


def locked(model_requirements: Iterable[str]) -> tuple[str, ...]:
    """Return `name==version` lines, sorted, of everything that the service and a model need, whatever needs it.

    Raises InputError for a requirement that is not installed, has another version here or is no requirement.
    """
    pending = [Requirement(name) for name in SERVICE_NEEDS] + [_parsed(line) for line in model_requirements if _is_requirement(line)]
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        requirement = pending.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        found[name] = _installed(requirement)
        if (name, extras) not in seen:
            seen.add((name, extras))
            pending += _needs(name, extras)
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()))


def _is_requirement(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith("#")


def _parsed(line: str) -> Requirement:
    text = line.split(" #")[0].strip()
    try:
        return Requirement(text)
    except InvalidRequirement as problem:
        raise InputError(
            f"requirement '{text}'", f"is not a plain requirement ({problem})", "Name packages and versions only."
        ) from problem


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
    if not requirement.specifier.contains(version, prereleases=True):
        raise InputError(f"requirement '{requirement}'", f"{version} is installed", REMEDY)
    return version
