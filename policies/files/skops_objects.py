"""The objects that a skops file makes, as the walk over a pickle has them, so that the same is asked of what they keep.

skops keeps every node by its `__id__`, and whatever comes later under that id is the first one: a file in which two nodes of
one id differ would be another to skops than to us, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from policies.files.allowlist import allowlist, skops_nodes
from policies.files.arrays import SCALARS
from policies.files.kept import MOST_VISITS, Overview
from policies.files.objects import CONTAINERS
from policies.files.seen import Import, Use
from policies.files.values import Held, Imported, Made, Refused, Some, Value

Node = Mapping[str, object]
VISITS_EACH = 20
DEFAULTS = "collections:defaultdict"
# What a dict's keys are made by: skops calls each with the text of its key
_PLAIN = ("builtins:str", "builtins:int", "builtins:float", "builtins:bool")
KEYS = frozenset({*_PLAIN, *(":".join(name.rsplit(".", 1)) for name in skops_nodes()["NdArrayNode"])} - {"numpy:ndarray"})
_OBJECTS = {"ObjectNode": Use.MADE, "TreeNode": Use.MADE, "LossNode": Use.MADE}
_NAMES = ("TypeNode", "FunctionNode")
_CHILDREN = ("content", "key_types", "__reduce__", "shape")


def look_over(document: Node, nodes: Sequence[Node], imports: dict[Import, None], problems: dict[str, None]) -> None:
    """Note what the objects of a schema keep, and where skops would read it otherwise than it stands there."""
    problems |= dict.fromkeys(_twice(nodes))
    reader = _Reader()
    found = Overview(allowlist().entries, MOST_VISITS + VISITS_EACH * len(nodes))
    try:
        root = reader.value(document)
        found.look(reader.made, root)
    except Refused as problem:
        problems[str(problem)] = None
    imports |= found.imports
    problems |= found.problems | reader.problems


def _twice(nodes: Sequence[Node]) -> Iterator[str]:
    known: dict[object, Node] = {}
    for node in nodes:
        identity = node.get("__id__")
        if isinstance(identity, dict | list):
            yield "has a node whose __id__ is neither a number nor a text"
        elif identity is not None and not _same(known.setdefault(identity, node), node):
            yield "has two nodes of one __id__ that differ, of which skops takes the first"


def _same(one: object, other: object) -> bool:
    """Return whether two parts of a schema say the same.

    An object's state may be made anew each time that it is saved: then its parts have new ids, and arrays and bytes new files.
    The ids of the parts are compared by themselves, and arrays and bytes are no names.
    """
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one if key not in ("__id__", "file"))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


class _Reader:
    """Makes values of nodes."""

    def __init__(self) -> None:
        self.made: list[Made] = []
        self.problems: dict[str, None] = {}

    def value(self, node: object) -> Value:
        """Return what a node is: any other value than a node is looked through for nodes."""
        if isinstance(node, list):
            return Held("list", [self.value(each) for each in node])
        if not isinstance(node, dict):
            return Some.NONE
        loader, path = str(node.get("__loader__")), f"{node.get('__module__')}:{node.get('__class__')}"
        if loader in _NAMES:
            return Imported(str(node.get("__module__")), str(node.get("__class__")))
        if loader in _OBJECTS:
            return self._object(node, path)
        if loader == "DictNode":
            return self._dict(node, path)
        if loader == "JsonNode":
            return self._plain(node)
        if loader in ("TupleNode", "ListNode", "SetNode"):
            return self.value(node.get("content"))
        return self._other(node, loader)

    def _object(self, node: Node, path: str) -> Made:
        reduced = node.get("__reduce__")
        arguments = (self.value(reduced.get("args")),) if isinstance(reduced, dict) else ()
        state = self.value(node["content"]) if node.get("content") is not None else None
        if arguments and isinstance(state, Held) and not state.items:
            # What was called has been given all that it has
            state = None
        made = Made(path, Use.CALLED if arguments else Use.MADE, arguments, state)
        self.made.append(made)
        return made

    def _dict(self, node: Node, path: str) -> Value:
        self._only("a dict's keys", self.value(node.get("key_types")), KEYS)
        content = node.get("content")
        pairs = [(key, self.value(each)) for key, each in content.items()] if isinstance(content, dict) else []
        held = Held("dict", list(pairs))
        if path not in CONTAINERS:
            return held
        made = Made(path, Use.MADE, held=held)
        self.made.append(made)
        return made

    def _plain(self, node: Node) -> Value:
        try:
            return _value_of(json.loads(str(node.get("content"))))
        except (ValueError, RecursionError):
            self.problems["has a value that is no JSON"] = None
            return Some.TEXT

    def _other(self, node: Node, loader: str) -> Value:
        """Return an array, a random generator or the like: no plain text, and it holds what is in it."""
        if loader == "DefaultDictNode" and isinstance(content := node.get("content"), dict):
            self._only("a defaultdict's factory", self.value(content.get("default_factory")), allowlist().entries[DEFAULTS].takes)
            return self.value(content.get("main"))
        inner = Held("list", [self._through(node.get(key)) for key in _CHILDREN if key in node])
        return Made(SCALARS[0], Use.MADE, held=inner) if "__loader__" in node else inner

    def _through(self, content: object) -> Value:
        """Return what stands in a mapping that is no node itself."""
        if isinstance(content, dict) and "__loader__" not in content:
            return Held("list", [self.value(each) for each in content.values()])
        return self.value(content)

    def _only(self, what: str, value: Value, known: frozenset[str]) -> None:
        left = [value]
        while left:
            each = left.pop()
            if isinstance(each, Held):
                left += each.items
            elif each is not Some.NONE and not (isinstance(each, Imported) and each.path in known):
                self.problems[f"makes {what} by something else than a plain type"] = None


def _value_of(value: object) -> Value:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return Held("dict", [(key, _value_of(each)) for key, each in value.items()])
    if isinstance(value, list):
        return Held("list", [_value_of(each) for each in value])
    return Some.NONE if value is None else Some.NUMBER
