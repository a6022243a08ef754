"""An ONNX model's protobuf, read as far as what it may reach: which operators it calls, and which files it reads weights from.

Fields by number from https://github.com/onnx/onnx/blob/main/onnx/onnx.proto; nothing is built from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from policies.files.archives import unsafe_name

DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"))
DEEPEST = 32
# Message -> field -> message within it
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "tensor": {13: "entry"},
    "function": {7: "node", 9: "opset", 11: "attribute"},
    "opset": {},
    "entry": {},
}
_NODE_DOMAIN, _OPSET_DOMAIN, _ENTRY_KEY, _ENTRY_VALUE, _MODEL_VERSION = 7, 1, 1, 2, 1


class Unreadable(Exception):
    """It is no protobuf, or no model."""


@dataclass(slots=True)
class Reach:
    """What a model reaches for: operator domains, files of weights; and whether it has a graph at all."""

    domains: set[str] = field(default_factory=set)
    locations: set[str] = field(default_factory=set)
    graphs: int = 0


def problems(data: bytes | memoryview) -> tuple[str, ...]:
    """Return what is wrong with an ONNX model; weights in other files must lie beside it."""
    try:
        reach = read(memoryview(data))
    except Unreadable as problem:
        return (f"the ONNX model cannot be read ({problem})",)
    found = [f"calls operators of the domain '{domain}', which may run any code" for domain in sorted(reach.domains - DOMAINS)]
    astray = [(location, why) for location in sorted(reach.locations) if (why := unsafe_name(location))]
    return (*found, *(f"reads weights from '{location[:80]}': {why}" for location, why in astray))


def read(data: memoryview) -> Reach:
    """Return what the model reaches for; raises Unreadable."""
    reach = Reach()
    _message(data, "model", reach, 0)
    if reach.graphs == 0:
        raise Unreadable("it has no graph")
    return reach


def _message(data: memoryview, kind: str, reach: Reach, depth: int) -> None:
    if depth > DEEPEST:
        raise Unreadable("it is nested too deeply")
    texts: dict[int, str] = {}
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        inner = _MESSAGES[kind].get(number)
        if inner is not None:
            reach.graphs += inner == "graph"
            _message(value, inner, reach, depth + 1)
        elif kind in ("node", "opset", "entry") and number in (_NODE_DOMAIN, _OPSET_DOMAIN, _ENTRY_VALUE):
            texts[number] = bytes(value).decode("utf-8", "replace")
    if kind == "node":
        reach.domains.add(texts.get(_NODE_DOMAIN, ""))
    elif kind == "opset":
        reach.domains.add(texts.get(_OPSET_DOMAIN, ""))
    elif kind == "entry" and texts.get(_ENTRY_KEY) == "location":
        reach.locations.add(texts.get(_ENTRY_VALUE, ""))


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Give a message's fields: number and value, by https://protobuf.dev/programming-guides/encoding/."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Unreadable("it has a field without a number")
        if wire == 0:
            value, position = _varint(data, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise Unreadable("it ends within a field")
            yield number, data[position : position + length]
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
            if position > len(data):
                raise Unreadable("it ends within a field")
        else:
            raise Unreadable("it has a field of an unknown kind")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise Unreadable("it ends within a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
