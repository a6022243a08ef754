"""What a logged MLflow model needs, from the files that MLflow writes beside it: each must say the same.

The Bento is built from requirements.txt; conda.yaml and python_env.yaml are other tools' view of the same needs. What
only they name would be served without, or by somebody else with what nobody has looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from bentos.requirements import components
from fleet.components import Needs
from fleet.errors import InputError
from fleet.yaml_text import MOST_BYTES, Unreadable, read_yaml_file

REQUIREMENTS, CONDA, PYTHON = "requirements.txt", "conda.yaml", "python_env.yaml"
TOOLS = frozenset({"python", "pip", "setuptools", "wheel"})
"""What an environment is made with; the model does not import it."""


def needs_of(model_folder: Path, more: Iterable[str] = (), *, gpu: bool = False) -> Needs:
    """Return what a downloaded model and our service need, and `more`, as installed here, or as it is beside a GPU.

    Nothing of the model is run.
    """
    try:
        lines = [*requirements_of(model_folder), *more]
        found = components(lines, gpu=gpu)
    except InputError as problem:
        return Needs((), (f"{problem.subject} {problem.reason}",))
    named: set[str] = {canonicalize_name(requirement) for requirement in _names(lines)}
    return Needs(found, (*_conda(model_folder / CONDA, named), *_python(model_folder / PYTHON, named)))


def requirements_of(model_folder: Path) -> list[str]:
    """Return the lines of a model's requirements.txt, none where there is none; raises InputError."""
    file = model_folder / REQUIREMENTS
    if not file.is_file():
        return []
    try:
        if file.stat().st_size > MOST_BYTES:
            raise InputError(REQUIREMENTS, f"is larger than {MOST_BYTES >> 10} KiB", "Log the model again.")
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as problem:
        raise InputError(REQUIREMENTS, "is no text", "Log the model again.") from problem


def _names(lines: list[str]) -> Iterator[str]:
    for line in lines:
        try:
            yield Requirement(line.split(" #")[0].strip()).name
        except InvalidRequirement:
            continue


def _conda(file: Path, named: set[str]) -> Iterator[str]:
    document = _document(file)
    if isinstance(document, str):
        yield document
        return
    wanted = document.get("dependencies", [])
    for needed in wanted if isinstance(wanted, list) else [None]:
        if isinstance(needed, Mapping) and isinstance(needed.get("pip"), list):
            yield from _also(file.name, needed["pip"], named)
        elif not isinstance(needed, str):
            yield f"{file.name} has dependencies that cannot be read"
        elif needed.split("=")[0].split("<")[0].split(">")[0].split("!")[0].strip().lower() not in TOOLS:
            yield f"{file.name} needs {needed!r} of Conda, which is served without and cannot be looked up"


def _python(file: Path, named: set[str]) -> Iterator[str]:
    document = _document(file)
    if isinstance(document, str):
        yield document
        return
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = str(document.get("python", here))
    if python.split(".")[:2] != here.split("."):
        yield f"{file.name} asks for Python {python}, and {here} serves"
    wanted = document.get("dependencies", [])
    lines = wanted if isinstance(wanted, list) else [None]
    yield from _also(file.name, [line for line in lines if line != f"-r {REQUIREMENTS}"], named)


def _also(source: str, lines: list[object], named: set[str]) -> Iterator[str]:
    """Name what a file needs that requirements.txt does not."""
    for line in lines:
        try:
            name = canonicalize_name(Requirement(str(line)).name)
        except InvalidRequirement:
            yield f"{source} needs {str(line)[:80]!r}, which is not a plain requirement"
            continue
        if name not in named and name not in TOOLS:
            yield f"{source} needs {name}, and {REQUIREMENTS} does not"


def _document(file: Path) -> Mapping[str, object] | str:
    """Return a YAML file's mapping, an empty one where there is no file, and why not where it is another thing."""
    if not file.is_file():
        return {}
    try:
        document = read_yaml_file(file)
    except Unreadable as problem:
        return f"{file.name} cannot be read: it {problem}"
    return document if isinstance(document, Mapping) else f"{file.name} cannot be read"
