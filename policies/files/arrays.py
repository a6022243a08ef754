"""The arrays that a pickle rebuilds from bytes: numpy takes these bytes for pointers where the element type has objects in it."""

from __future__ import annotations

import re

from policies.files.seen import Use
from policies.files.values import Held, Made, Some, Value

RECONSTRUCTED = ("numpy._core.multiarray:_reconstruct", "numpy.core.multiarray:_reconstruct", "numpy.ma.core:_mareconstruct")
SCALARS = ("numpy._core.multiarray:scalar", "numpy.core.multiarray:scalar")
BUFFERS = ("numpy._core.numeric:_frombuffer", "numpy.core.numeric:_frombuffer")
DTYPE = "numpy:dtype"
# How numpy itself writes an element type: one letter and a size
_CODE = re.compile(r"[<>|=]?[?biufcmMSUVOg]\d*", re.ASCII)
_DEEPEST = 20


def array_problem(made: Made) -> str:
    """Return what is wrong with an array, a scalar or an element type; empty for everything else."""
    if made.path == DTYPE:
        code = made.arguments[0] if made.arguments else None
        return "" if isinstance(code, str) and _CODE.fullmatch(code) else "it has an element type that numpy would write otherwise"
    if made.path in SCALARS and len(made.arguments) > 1 and made.arguments[1] is Some.BYTES:
        return _over_bytes(made.arguments[0])
    if made.path in BUFFERS:
        return _over_bytes(made.arguments[1]) if len(made.arguments) > 1 else "it makes an array of no known element type"
    if made.path in RECONSTRUCTED and made.state is not None:
        return _rebuilt(made.state)
    return ""


def _rebuilt(state: Value) -> str:
    """Return what is wrong with an array's state: (version, shape, element type, order, bytes or a list of objects)."""
    if not isinstance(state, tuple) or len(state) < 5:
        return "it gives an array a state that numpy would write otherwise"
    kind, data = state[2], state[4]
    if isinstance(data, Held):
        return "" if _code(kind).endswith(("O", "O8")) else "it gives an array of numbers a list of objects"
    return _over_bytes(kind)


def _over_bytes(kind: Value) -> str:
    return "it rebuilds objects from bytes, which numpy would take for their addresses" if _has_objects(kind, 0) else ""


def _code(kind: Value) -> str:
    code = kind.arguments[0] if isinstance(kind, Made) and kind.path == DTYPE and kind.arguments else ""
    return code if isinstance(code, str) else ""


def _has_objects(kind: Value, depth: int) -> bool:
    """Return whether an element type has objects in it, or is none that can be told."""
    code = _code(kind)
    if not code or "O" in code or depth > _DEEPEST or not isinstance(kind, Made):
        return True
    return any(_has_objects(each, depth + 1) for each in _kinds_in(kind.state))


def _kinds_in(state: Value | None) -> list[Made]:
    """Return the element types of the fields of an element type."""
    found: list[Made] = []
    left: list[Value] = [] if state is None else [state]
    for _ in range(10_000):
        if not left:
            return found
        value = left.pop()
        if isinstance(value, Made):
            found.append(value)
        elif isinstance(value, tuple):
            left += value
        elif isinstance(value, Held):
            left += value.items
    # Too many to look at: taken for what is refused
    return [Made("", Use.MADE)]
