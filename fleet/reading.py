"""Reads fleet.yaml whole: every problem with its path, its line and the allowed values, before the first act."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fleet.declared import Fleet, Model
from fleet.errors import FleetFileError, UnknownName
from fleet.parsed import keep_parsed, parsed_before

REMEDY = "Correct the file; nothing was done."


def read_fleet(path: Path) -> Fleet:
    """Return the fleet that a file declares.

    Raises FleetFileError, which lists every problem as `path (line N): what is wrong`.
    """
    return fleet_of(fleet_text(path), str(path))


def fleet_text(path: Path) -> bytes:
    """Return the bytes of a fleet file; raises FleetFileError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise FleetFileError(
            str(path), "there is no such file", "Run `convoy up`, which writes an example, or set CONVOY_FLEET."
        ) from problem
    except OSError as problem:
        raise FleetFileError(str(path), f"cannot be read ({problem})", REMEDY) from problem


def fleet_of(text: bytes, name: str, parsed: Path | None = None) -> Fleet:
    """Return the fleet that some bytes declare; errors call them by `name`. Raises FleetFileError.

    With a folder `parsed`, a large text is parsed once: ten seconds for a thousand models in 24 regions.
    """
    if parsed is not None and (known := parsed_before(parsed, text)) is not None:
        return Fleet.model_validate(known)
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = YAML(typ="rt").load(text.decode())
    except UnicodeDecodeError as problem:
        raise FleetFileError(name, f"cannot be read ({problem})", REMEDY) from problem
    except MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else "?"
        raise FleetFileError(name, f"line {line}: {problem.problem}", REMEDY) from problem
    except YAMLError as problem:
        raise FleetFileError(name, str(problem), REMEDY) from problem
    if not isinstance(document, dict):
        raise FleetFileError(name, "must be a mapping with the keys version, name, regions and models", REMEDY)
    try:
        fleet = Fleet.model_validate(document)
    except ValidationError as problem:
        found = "; ".join(_sentence(document, error) for error in problem.errors())
        raise FleetFileError(name, found, REMEDY) from problem
    if parsed is not None:
        keep_parsed(parsed, text, document)
    return fleet


def model_of(fleet: Fleet, name: str) -> Model:
    """Return a declared model; raises UnknownName that lists the known ones."""
    try:
        return fleet.models[name]
    except KeyError:
        raise UnknownName(
            f"model '{name}'", f"is not in fleet.yaml (known: {', '.join(sorted(fleet.models))})", "Declare it or correct the name."
        ) from None


def _sentence(document: Any, error: ErrorDetails) -> str:
    location = [part for part in error["loc"] if part != "[key]"]
    where = ".".join(str(part) for part in location) or "(the whole file)"
    says = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        says = "unknown key" + _known_keys(location)
    elif error["type"] == "missing":
        says = "is missing"
    elif error["type"] not in ("value_error", "literal_error"):
        says += f" (found {error['input']!r})" if not isinstance(error["input"], dict) else ""
    return f"{where} (line {_line(document, location)}): {says}"


def _known_keys(location: list[int | str]) -> str:
    """Name the keys that would have been allowed beside an unknown one."""
    kind: Any = Fleet
    for part in location[:-1]:
        field = kind.model_fields.get(part) if hasattr(kind, "model_fields") else None
        annotation = field.annotation if field else kind
        kind = _element(annotation) if not hasattr(annotation, "model_fields") else annotation
        if kind is None:
            return ""
    return f" (known: {', '.join(kind.model_fields)})" if hasattr(kind, "model_fields") else ""


def _element(annotation: Any) -> Any:
    """Return the declared type within dict[...], tuple[...], X | None or Annotated[...]."""
    if hasattr(annotation, "model_fields"):
        return annotation
    for argument in reversed(getattr(annotation, "__args__", ())):
        found = _element(argument)
        if found is not None:
            return found
    return None


def _line(document: Any, location: list[int | str]) -> int | str:
    """Return the line of the deepest part of a location that the document has."""
    line: int | str = 1
    here = document
    for part in location:
        marks = getattr(here, "lc", None)
        try:
            line = (marks.key(part) if isinstance(here, dict) else marks.item(part))[0] + 1  # type: ignore[union-attr]
            here = here[part]
        except (KeyError, IndexError, AttributeError, TypeError):
            break
    return line
