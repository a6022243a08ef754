"""What a bundle says, read from the engine's own syntax tree: what it calls, and which rules decide or test.

Text is never searched: in the tree a comment is nothing, a string is a string, and `time["now_ns"]()` or a function behind
an import is the call that it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.rego.builtins import ALLOWED, FORBIDDEN, NAMESPACES, why_not

DECIDES = re.compile(r"(deny|violation|warn)(_[A-Za-z0-9]+)*")
Node = Any


@dataclass(frozen=True, slots=True)
class Module:
    """One file: its package (without `data.`), the functions and rules that it defines, and what its imports are called."""

    path: str
    package: str
    rules: tuple[Mapping[str, Node], ...]
    imports: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Syntax:
    """A bundle's files."""

    modules: tuple[Module, ...]

    @property
    def packages(self) -> frozenset[str]:
        """The packages that have files."""
        return frozenset(module.package for module in self.modules)

    def problems(self) -> list[str]:
        """Return every call that a policy may not make, with its file, line and reason."""
        functions = {(module.package, name) for module in self.modules for name in _names(module, "Func")}
        return sorted({problem for module in self.modules for problem in _problems(module, functions)})

    def deciding(self, package: str) -> tuple[str, ...]:
        """Return the names of a package's rules that refuse or warn, as Conftest names them."""
        return tuple(sorted({name for module in self._of(package) for name in _names(module) if DECIDES.fullmatch(name)}))

    def ill_formed(self, package: str) -> list[str]:
        """Return the deciding rules that are no sets of messages, and those of Conftest that are not known here."""
        found = []
        for module in self._of(package):
            sets, all_names = set(_names(module, "Set", plain=True)), set(_names(module))
            found += [
                f"{module.path}: {name} must be a set of messages: {name} contains message if {{ … }}"
                for name in sorted(all_names - sets)
                if DECIDES.fullmatch(name)
            ]
            if "exception" in all_names:
                found.append(f"{module.path}: exception is not known here: put what is exempt into the data, and let the rule look there")
        return found

    def tests(self) -> tuple[tuple[str, str, str], ...]:
        """Return every test as (file, package, rule)."""
        return tuple(
            (module.path, module.package, name)
            for module in self.modules
            for name in dict.fromkeys(_names(module))
            if name.startswith("test_")
        )

    def _of(self, package: str) -> Iterator[Module]:
        return (module for module in self.modules if module.package == package)


def read_syntax(trees: Sequence[Mapping[str, Node]], texts: Mapping[str, str]) -> Syntax:
    """Return the syntax of a bundle from the engine's trees and the texts they were parsed from."""
    return Syntax(tuple(_module(tree, texts[tree["path"]].encode()) for tree in trees))


def _module(tree: Mapping[str, Node], text: bytes) -> Module:
    package = ".".join(_path(tree["package"]["refr"]) or ("",))
    imports = {}
    for each in tree["imports"]:
        path = _path(each["refr"])
        if path:
            span = each.get("as")
            imports[text[span["start"] : span["end"]].decode() if span else path[-1]] = path
    return Module(tree["path"], package, tuple(tree["rules"] or ()), imports)


def _names(module: Module, kind: str = "", plain: bool = False) -> list[str]:
    """Return the names of a module's rules, of one kind or of all; `plain` leaves out those that have keys of their own."""
    found = []
    for rule in module.rules:
        heads = rule["Spec"]["head"] if "Spec" in rule else {"Default": rule["Default"]}
        for shape, head in heads.items():
            if kind in ("", shape) and not (plain and "Var" not in head["refr"]):
                found.append(".".join(_head(head["refr"])))
    return found


def _head(node: Node) -> tuple[str, ...]:
    """Return the fixed beginning of a rule's name: `deny` of deny[message], `a.b` of a.b[key].c."""
    steps: list[str] = []
    while node is not None:
        kind, value = next(iter(node.items()))
        if kind == "Var":
            steps.append(value["value"])
            node = None
        elif kind == "RefDot":
            steps.append(value["field"][1])
            node = value["refr"]
        else:
            steps.clear()
            node = value["refr"]
    return tuple(reversed(steps))


def _path(node: Node) -> tuple[str, ...] | None:
    """Return a reference as its steps, where all of them are fixed."""
    kind, value = next(iter(node.items()))
    if kind == "Var":
        return (value["value"],)
    if kind == "RefDot":
        step = value["field"][1]
    elif kind == "RefBrack":
        index_kind, index = next(iter(value["index"].items()))
        if index_kind not in ("String", "RawString"):
            return None
        step = index["value"]
    else:
        return None
    before = _path(value["refr"])
    return None if before is None else (*before, step)


def _problems(module: Module, functions: set[tuple[str, str]]) -> Iterator[str]:
    for name, path in module.imports.items():
        if name in NAMESPACES:
            yield f"{module.path}: imports {'.'.join(path)} as {name}, as built-in functions are called: import it as another name"
    for node in _walked(module.rules):
        if "Call" in node:
            yield from _call(module, functions, node["Call"]["fcn"], node["Call"]["span"]["line"])
        elif "RefDot" in node or "RefBrack" in node:
            used = ".".join(_path(node) or ())
            if used in FORBIDDEN:
                line = next(iter(node.values()))["span"]["line"]
                yield f"{module.path}, line {line}: {used} is forbidden: {why_not(used)}"
    for name in _names(module, "Func"):
        if name in ALLOWED or name.partition(".")[0] in NAMESPACES:
            yield f"{module.path}: defines {name}, which is what a built-in function is called: give it another name"


def _call(module: Module, functions: set[tuple[str, str]], called: Node, line: int) -> Iterator[str]:
    path = _path(called)
    if path is None:
        yield f"{module.path}, line {line}: calls a function whose name is not fixed"
        return
    name = ".".join(path)
    if name in ALLOWED or (module.package, name) in functions:
        return
    full = (*module.imports[path[0]], *path[1:]) if path[0] in module.imports else path
    known = full[0] == "data" and (".".join(full[1:-1]), full[-1]) in functions
    if known and name.partition(".")[0] not in NAMESPACES:
        return
    yield f"{module.path}, line {line}: {name} is forbidden: {why_not(name)}"


def _walked(node: Node) -> Iterator[Mapping[str, Node]]:
    """Walk the tree without recursion: a policy chooses how deep it is."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield here
            waiting += here.values()
        elif isinstance(here, (list, tuple)):
            waiting += here
