"""What stays in what a file loads, and who keeps it: the objects that a walk saw made, looked over once it is done.

A name that is only imported does nothing. Kept, it is called by whoever calls what its attribute holds: FunctionTransformer
its func, a kernel its parts, a Pipeline any `transform`. The same holds for instances that can be called, or that write files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from policies.files.arrays import array_problem
from policies.files.objects import leaves
from policies.files.seen import Import, Use
from policies.files.values import Held, Imported, Made, Refused, Some, Value

FOLDER = Path(__file__).parent / "allowed"
# The place of a call's arguments, and of what no object keeps
ARGUMENTS, NOBODYS = "()", ""
MOST_VISITS = 200_000
# What scipy's distributions run as code from their __setstate__, whoever allowed them
RUN = ("_parse_arg_template",)
# What Python shows, and acts on nowhere
TOLD = ("__doc__",)


@dataclass(frozen=True, slots=True)
class Places:
    """Where names and guarded instances may be kept, by `module:name`; a place is `module:Class.attribute`.

    `texts` are the places that name a method or a file, with the texts that may stand there. `values` take a state of any
    shape, `transparent` are looked through; `kept.toml` says why.
    """

    names: Mapping[str, frozenset[str]]
    instances: Mapping[str, frozenset[str]]
    texts: Mapping[str, frozenset[str]]
    values: frozenset[str]
    transparent: frozenset[str]

    def allow(self, found: Import) -> bool:
        """Return whether something may be kept, or an instance of it held, where it is."""
        if found.holder == NOBODYS and found.use is Use.HELD:
            # Whoever loads the file asks it for predictions, and nothing else
            return True
        at = (self.names if found.use is Use.KEPT else self.instances).get(found.path, frozenset())
        return f"{found.holder}.{found.attribute}" in at or (found.attribute != ARGUMENTS and f"*.{found.attribute}" in at)


@cache
def places() -> Places:
    """Return the places that ship with Convoy."""
    document = tomllib.loads((FOLDER / "kept.toml").read_text("utf-8"))
    texts = {place: frozenset(entry["texts"]) for entry in document.get("texts", ()) for place in entry["at"]}
    names, instances = _by_name(document.get("names", ())), _by_name(document.get("instances", ()))
    return Places(names, instances, texts, frozenset(document["values"]), frozenset(document["transparent"]))


def _by_name(entries: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for entry in entries:
        for name in entry["names"]:
            found[name] = found.get(name, frozenset()) | frozenset(entry["at"])
    return found


@dataclass(slots=True)
class Overview:
    """What is found while the objects of one file are looked over; `listed` are the names on the allowlist."""

    listed: Mapping[str, object]
    visits: int
    imports: dict[Import, None] = field(default_factory=dict)
    problems: dict[str, None] = field(default_factory=dict)

    def look(self, made: Sequence[Made], root: Value) -> None:
        """Look over every object, and what is none's; raises Refused where they hold one another too often."""
        self._keep(NOBODYS, NOBODYS, root)
        for each in made:
            self._object(each)

    def _object(self, made: Made) -> None:
        if made.use is Use.CALLED:
            self._arguments(made)
        if problem := array_problem(made):
            self.problems[problem] = None
        if made.state is None or made.state is Some.NONE:
            return
        if isinstance(made.state, Held) and made.state.kind == "dict" and self._has_attributes(made):
            self._attributes(made, made.state)
        elif made.path in places().values or made.path not in self.listed:
            # What an array has in it is kept by who keeps the array
            if made.path not in places().transparent:
                self._keep(made.path, "", made.state)
        else:
            self.problems[f"it gives {_dotted(made.path)} a state that is no dict of attributes"] = None

    def _has_attributes(self, made: Made) -> bool:
        return made.use is Use.MADE or made.path in places().values or made.path not in self.listed

    def _arguments(self, made: Made) -> None:
        """Note what a call is given once more: a container among its arguments may have been filled since."""
        names: dict[str, None] = {}
        for leaf in self._within(made.arguments):
            if isinstance(leaf, Imported):
                names[leaf.path] = None
            elif isinstance(leaf, Made):
                self._found(made.path, ARGUMENTS, leaf)
        if names:
            module, _, name = made.path.partition(":")
            self.imports[Import(module, name, Use.CALLED, tuple(names))] = None

    def _attributes(self, made: Made, state: Held) -> None:
        for pair in state.items:
            name, value = pair if isinstance(pair, tuple) and len(pair) == 2 else (pair, Some.NONE)
            if not isinstance(name, str) and made.path not in self.listed:
                # A class of the model's own, or one that fleet.yaml added, may have a state of any shape
                self._keep(made.path, "", value)
            elif not isinstance(name, str):
                # A numpy.str_ is found by getattr like the text that it equals
                self.problems[f"it gives {_dotted(made.path)} an attribute whose name is no plain text"] = None
            elif name in RUN:
                self.problems[f"it gives {_dotted(made.path)} the attribute {name}, which is run as code while it is loaded"] = None
            elif name.startswith("__") and name.endswith("__") and name not in TOLD:
                self.problems[f"it gives {_dotted(made.path)} the attribute {name[:60]}, which Python itself acts on"] = None
            else:
                self._keep(made.path, name, value)
                self._text(f"{made.path}.{name}", value)

    def _keep(self, holder: str, attribute: str, value: Value) -> None:
        for leaf in self._within((value,)):
            if not isinstance(leaf, str):
                self._found(holder, attribute, leaf)

    def _found(self, holder: str, attribute: str, leaf: Value) -> None:
        if isinstance(leaf, Imported):
            self.imports[Import(leaf.module, leaf.name, Use.KEPT, (), holder, attribute)] = None
        elif isinstance(leaf, Made) and leaf.path in places().instances:
            module, _, name = leaf.path.partition(":")
            self.imports[Import(module, name, Use.HELD, (), holder, attribute)] = None

    def _text(self, place: str, value: Value) -> None:
        """Hold what names a method or a file against what may stand there; what is no plain text may be another in disguise."""
        known = places().texts.get(place)
        if known is None:
            return
        for leaf in self._within((value,), through=False):
            if leaf not in known and leaf is not Some.NONE and leaf is not Some.NUMBER:
                told = f"'{leaf[:60]}'" if isinstance(leaf, str) else "no plain text"
                self.problems[f"it gives {_dotted(place)} {told} (known: {', '.join(sorted(known))})"] = None

    def _within(self, values: Sequence[Value], through: bool = True) -> Iterator[Value]:
        """Give what is kept through containers, each container once."""
        seen: set[int] = set()
        left = list(values)
        while left:
            value = left.pop()
            self.visits -= 1
            if self.visits < 0:
                raise Refused("its objects hold one another too often to be looked over")
            if isinstance(value, tuple):
                left += value
            elif isinstance(value, Held) or (through and isinstance(value, Made) and value.path in places().transparent):
                if id(value) not in seen:
                    seen.add(id(value))
                    left += value.items if isinstance(value, Held) else _inside(value)
            else:
                yield value


def _inside(made: Made) -> Iterator[Value]:
    # Imports among the arguments are held against what the call may take
    yield from (each for each in leaves(made.arguments) if not isinstance(each, Imported))
    if made.held is not None:
        yield made.held
    if made.state is not None:
        yield made.state


def _dotted(path: str) -> str:
    return path.replace(":", ".")
