"""Advisories in OSV form, and which of them are about a package at a version.

The algorithm is the one of https://ossf.github.io/osv-schema/ ("Evaluation"), for the ecosystem PyPI: versions are
compared by PEP 440. Ranges of Git commits and of semantic versions say nothing of a PyPI version: where an advisory has
only these, and no list of versions, nobody can tell, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fleet.components import Component
from policies.dependencies.severity import Severity, severity_of

ECOSYSTEM = "PyPI"


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory; `about` gives what it says of each PyPI package, by normalised name, `record` is all of it."""

    id: str
    aliases: tuple[str, ...]
    summary: str
    modified: datetime
    withdrawn: bool
    about: tuple[tuple[str, Mapping[str, Any]], ...]
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """An advisory that is about a component; `unclear` says why nobody can tell whether its version is affected."""

    advisory: Advisory
    component: Component
    severity: Severity
    fixed: tuple[str, ...] = ()
    unclear: str = ""


def advisory_of(record: object, now: datetime) -> Advisory:
    """Read an OSV record; raises ValueError for what is none. One withdrawn later than `now` is not withdrawn yet."""
    if not isinstance(record, Mapping):
        raise ValueError("is no object")
    version = str(record.get("schema_version", "1.0.0"))
    if not version.startswith("1."):
        raise ValueError(f"has the schema version {version}, which is not read (known: 1.x)")
    name, affected = record.get("id"), record.get("affected") or []
    if not isinstance(name, str) or not name or not isinstance(affected, list):
        raise ValueError("has no id, or its affected packages are no list")
    withdrawn = record.get("withdrawn")
    return Advisory(
        id=name,
        aliases=tuple(str(alias) for alias in record.get("aliases") or ()),
        summary=" ".join(str(record.get("summary") or record.get("details") or "").split())[:160],
        modified=_time(record.get("modified")),
        withdrawn=withdrawn is not None and _time(withdrawn) <= now,
        about=tuple(_about(affected)),
        record=record,
    )


def matches(advisory: Advisory, components: Mapping[str, Component]) -> Iterator[Match]:
    """Yield each component that an advisory is about and whose version it affects, or may; `components` are by name."""
    if advisory.withdrawn:
        return
    for name, affected in advisory.about:
        component = components.get(name)
        if component is None:
            continue
        hit, unclear = affects(affected, component.version)
        if hit or unclear:
            yield Match(advisory, component, severity_of(advisory.record, affected), _fixed(affected), "" if hit else unclear)


def affects(affected: Mapping[str, Any], version: str) -> tuple[bool, str]:
    """Return whether a version is affected, or why nobody can tell."""
    from packaging.version import InvalidVersion, Version

    try:
        here = Version(version)
    except InvalidVersion:
        return False, f"the installed version {version} is none of PEP 440"
    listed, ranges = affected.get("versions") or [], affected.get("ranges") or []
    if any(_same(str(each), here) for each in listed):
        return True, ""
    compared, unclear = 0, ""
    for found in ranges:
        kind = str(found.get("type", "")) if isinstance(found, Mapping) else ""
        if kind != "ECOSYSTEM":
            continue
        compared += 1
        try:
            if _within(found.get("events") or [], here):
                return True, ""
        except (InvalidVersion, ValueError, TypeError, AttributeError):
            unclear = "a range of it cannot be compared by PEP 440"
    if unclear or compared or listed:
        return False, unclear
    kinds = ", ".join(sorted({str(found.get("type")) for found in ranges if isinstance(found, Mapping)})) or "none"
    return False, f"it names neither versions nor a range of them (ranges: {kinds})"


def _same(text: str, here: Any) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        return bool(Version(text) == here)
    except InvalidVersion:
        return text == str(here)


def _within(events: list[Mapping[str, str]], here: Any) -> bool:
    """Follow the events of a range, sorted by version, and return where they leave a version."""
    from packaging.version import Version

    order = {"introduced": 0, "fixed": 1, "last_affected": 2, "limit": 3}
    known = [(kind, text) for event in events for kind, text in event.items()]
    if not known or any(kind not in order for kind, _ in known) or not any(kind == "introduced" for kind, _ in known):
        raise ValueError("no such events")
    limits = [text for kind, text in known if kind == "limit" and text != "*"]
    if limits and not any(here < Version(text) for text in limits):
        return False
    affected = False
    lowest = Version("0.dev0")
    timed = [(lowest if text == "0" else Version(text), order[kind], kind) for kind, text in known if kind != "limit"]
    for at, _, kind in sorted(timed, key=lambda event: event[:2]):
        if kind == "introduced" and (here >= at or at == lowest):
            affected = True
        elif (kind == "fixed" and here >= at) or (kind == "last_affected" and here > at):
            affected = False
    return affected


def _fixed(affected: Mapping[str, Any]) -> tuple[str, ...]:
    found = {
        str(event["fixed"])
        for each in affected.get("ranges") or []
        if isinstance(each, Mapping) and each.get("type") == "ECOSYSTEM"
        for event in each.get("events") or []
        if isinstance(event, Mapping) and "fixed" in event
    }
    return tuple(sorted(found))


def _about(affected: list[object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from packaging.utils import canonicalize_name

    for each in affected:
        package = each.get("package") if isinstance(each, Mapping) else None
        if not isinstance(each, Mapping) or not isinstance(package, Mapping):
            continue
        if str(package.get("ecosystem", "")).partition(":")[0] == ECOSYSTEM:
            yield canonicalize_name(str(package.get("name", ""))), each


def _time(told: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(told).replace("Z", "+00:00"))
    except ValueError as problem:
        raise ValueError(f"has no time but {str(told)[:40]!r}") from problem
    return found if found.tzinfo else found.replace(tzinfo=UTC)
