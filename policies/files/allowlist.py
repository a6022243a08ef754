"""The closed allowlist: what a pickle or a skops file may import, and what it may do with it; the data lies in `allowed/`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from policies.files.kept import ARGUMENTS, places
from policies.files.seen import Import, Use

FOLDER = Path(__file__).parent / "allowed"
FLAVOURS = ("support", "mlflow", "sklearn", "lightgbm", "xgboost")


@dataclass(frozen=True, slots=True)
class Entry:
    """What may be done with one name, and among a call's arguments which imports may be; `reason` is why.

    Without any use it may be imported, for a call that the walk resolves by itself.
    """

    uses: frozenset[Use]
    takes: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class Allowlist:
    """Entries by `module:name`, and those that fleet.yaml adds, with which anything may be done."""

    entries: Mapping[str, Entry]
    added: frozenset[str] = frozenset()

    def with_added(self, names: Iterable[str]) -> Allowlist:
        """Return the list with names that were declared one by one."""
        return Allowlist(self.entries, self.added | frozenset(names))

    def refusal(self, found: Import) -> str:
        """Return why an import is not allowed; empty where it is."""
        if found.path in self.added:
            return ""
        entry = self.entries.get(found.path)
        if entry is None:
            return f"imports {found.dotted}, which is not on the allowlist"
        if found.use is Use.NAMED or (found.use is Use.MADE and Use.MADE in entry.uses):
            return ""
        if found.use in (Use.KEPT, Use.HELD):
            return self._astray(found, entry)
        if found.use not in entry.uses:
            return f"{'makes an object of' if found.use is Use.MADE else 'calls'} {found.dotted}, which it may only {_may(entry)}"
        foreign = [given for given in found.given if given not in entry.takes and given not in self.added]
        if foreign:
            return f"calls {found.dotted} with {', '.join(foreign).replace(':', '.')} among the arguments"
        return ""

    def _astray(self, found: Import, entry: Entry) -> str:
        """Return why something may not stay where it is kept; a class that fleet.yaml added may keep what may be kept at all."""
        if places().allow(found) or (found.holder in self.added and entry.uses):
            return ""
        what = found.dotted if found.use is Use.KEPT else f"an object of {found.dotted}"
        where = f"{found.holder.replace(':', '.')}.{found.attribute}" if found.holder else "an object of its own"
        if found.attribute == ARGUMENTS:
            return f"calls {found.holder.replace(':', '.')} with {what} among the arguments"
        return f"keeps {what} in {where}, where it may be called, and it may not stand there"

    def allows_type(self, dotted: str) -> bool:
        """Return whether a type that skops names (`module.name`) is on the list in any use."""
        module, _, name = dotted.rpartition(".")
        path = f"{module}:{name}"
        entry = self.entries.get(path)
        return path in self.added or (entry is not None and bool(entry.uses)) or dotted in _node_types()


def _may(entry: Entry) -> str:
    return "name and make without arguments" if Use.MADE in entry.uses else "call" if Use.CALLED in entry.uses else "name"


@cache
def allowlist() -> Allowlist:
    """Return the list that ships with Convoy."""
    return Allowlist(dict(_entries()))


@cache
def skops_nodes() -> Mapping[str, frozenset[str]]:
    """Return, for each kind of node with types of its own, these types."""
    return {node: frozenset(types) for node, types in tomllib.loads((FOLDER / "skops.toml").read_text("utf-8")).items()}


@cache
def _node_types() -> frozenset[str]:
    return frozenset(name for types in skops_nodes().values() for name in types)


def _entries() -> Iterator[tuple[str, Entry]]:
    for flavour in FLAVOURS:
        for module in tomllib.loads((FOLDER / f"{flavour}.toml").read_text("utf-8"))["modules"]:
            yield from _of_module(module)


def _of_module(module: Mapping[str, object]) -> Iterator[tuple[str, Entry]]:
    called: dict[str, list[str]] = module.get("called", {})  # type: ignore[assignment]
    made: list[str] = module.get("made", [])  # type: ignore[assignment]
    named: list[str] = module.get("named", [])  # type: ignore[assignment]
    resolved: list[str] = module.get("resolved", [])  # type: ignore[assignment]
    for name in dict.fromkeys((*named, *made, *called, *resolved)):
        uses = {use for use, names in ((Use.NAMED, named), (Use.MADE, made), (Use.CALLED, called)) if name in names}
        yield f"{module['module']}:{name}", Entry(frozenset(uses), frozenset(called.get(name, ())), str(module["reason"]))
