"""What a model needs to be served, package by package."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Component:
    """A Python package as it is served: its normalised name, its version, what it says of its licence, who brings it in.

    `expression` is its SPDX expression, `licence` the older free text, `classifiers` those of licences; each may be empty.
    `through` names who needs it, outermost first.
    """

    name: str
    version: str
    expression: str = ""
    licence: str = ""
    classifiers: tuple[str, ...] = ()
    through: tuple[str, ...] = ()

    @property
    def purl(self) -> str:
        """Its package URL: https://github.com/package-url/purl-spec, type pypi."""
        return f"pkg:pypi/{self.name}@{quote(self.version, safe='')}"

    @property
    def brought_by(self) -> str:
        """Who brings it in, in words."""
        return " through ".join(dict.fromkeys((self.through[0], self.through[-1]))) if self.through else "nobody"


@dataclass(frozen=True, slots=True)
class Needs:
    """All that a model needs, by name; `problems` say what of it could not be told."""

    components: tuple[Component, ...]
    problems: tuple[str, ...] = ()
