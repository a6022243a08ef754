"""The schema of a skops file, walked without skops: every node, what it is of, and every file that it refers to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from policies.files import skops_objects
from policies.files.allowlist import skops_nodes
from policies.files.seen import Import, Use

PROTOCOL = 2
SCHEMA = "schema.json"
DEEPEST = 200
# What these do with the type that they name; every other node has types of its own, or none that is allowed
USES = {
    "ObjectNode": Use.MADE,
    "TypeNode": Use.NAMED,
    "FunctionNode": Use.NAMED,
    "TreeNode": Use.CALLED,
    "LossNode": Use.CALLED,
}
ARRAYS = (".npy", ".npz", ".bin")
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


@dataclass(frozen=True, slots=True)
class Schema:
    """What a schema imports, what is wrong with it, and which members it refers to."""

    imports: tuple[Import, ...] = ()
    problems: tuple[str, ...] = ()
    files: frozenset[str] = frozenset()


def read_schema(text: bytes) -> Schema:
    """Return what a schema.json says."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as problem:
        return Schema(problems=(f"the skops schema cannot be read ({type(problem).__name__})",))
    if not isinstance(document, dict) or type(document.get("protocol")) is not int:
        return Schema(problems=("the skops schema has no protocol",))
    if document["protocol"] != PROTOCOL:
        told = f"has skops protocol {document['protocol']}, and only {PROTOCOL} is checked by every node: save it with a newer skops"
        return Schema(problems=(told,))
    imports: dict[Import, None] = {}
    problems: dict[str, None] = {}
    files: set[str] = set()
    try:
        nodes = list(_nodes(document, 0))
        for node in nodes:
            _node(node, imports, problems, files)
        skops_objects.look_over(document, nodes, imports, problems)
    except RecursionError:
        problems["the skops schema is nested too deeply"] = None
    return Schema(tuple(imports), tuple(problems), frozenset(files))


def _nodes(value: object, depth: int) -> Iterator[Mapping[str, object]]:
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, dict):
        if "__loader__" in value or "__class__" in value or "__module__" in value:
            yield value
        for inner in value.values():
            yield from _nodes(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner, depth + 1)


def _node(node: Mapping[str, object], imports: dict[Import, None], problems: dict[str, None], files: set[str]) -> None:
    loader, module, name = (node.get(key) for key in ("__loader__", "__module__", "__class__"))
    if not isinstance(loader, str) or not isinstance(module, str) or not isinstance(name, str):
        problems["the skops schema has a node without loader, module or class"] = None
    elif loader in USES:
        imports[Import(module, name, USES[loader])] = None
    elif loader in skops_nodes():
        if f"{module}.{name}" not in skops_nodes()[loader]:
            imports[Import(module, name, Use.CALLED)] = None
            problems[f"has a {loader} of the type {module}.{name}"] = None
    elif loader != "JsonNode":
        problems[f"has a {loader} of the type {module}.{name}, a kind of node that calls what the file says"] = None
        imports[Import(module, name, Use.CALLED)] = None
    if loader == "RandomGeneratorNode" and _bit_generator(node) not in BIT_GENERATORS:
        problems["has a random generator of an unknown kind"] = None
    if "file" in node:
        _file(node["file"], files, problems)


def _bit_generator(node: Mapping[str, object]) -> object:
    """Return the name that skops looks up in numpy.random (see RandomGeneratorNode there)."""
    try:
        return json.loads(node["content"]["bit_generator"]["content"]["bit_generator"]["content"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None


def _file(name: object, files: set[str], problems: dict[str, None]) -> None:
    if isinstance(name, str) and name.endswith(ARRAYS) and "/" not in name and "\\" not in name:
        files.add(name)
    else:
        problems[f"refers to the member {str(name)[:80]!r}, which is no array of its own"] = None
