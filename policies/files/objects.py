"""What the opcodes that make objects, call, and write into what was made do to the machine.

The unpickler looks up `append`, `extend`, `add` and `__setstate__` on the instance, so an object with such an attribute of the
file's choice turns a name into a call. Hence items go only into known containers, and attributes are written once, last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from policies.files.seen import Use
from policies.files.values import Held, Imported, Machine, Made, Some, Value

_INERT = (Some.NUMBER, Some.BYTES, Some.NONE)
Step = Callable[[Machine, object], None]
RECONSTRUCTOR, OBJECT, BYTEARRAY = Imported("copyreg", "_reconstructor"), Imported("builtins", "object"), Imported("builtins", "bytearray")
# How protocols 0 to 2 write bytes
ENCODE = Imported("_codecs", "encode")
# How cloudpickle writes list[str], say, as the type of an argument
BUILTIN_TYPE = Imported("cloudpickle.cloudpickle", "_builtin_type")
BUILTIN_TYPES: dict[tuple[Value, ...], tuple[str, str]] = {("GenericAlias",): ("types", "GenericAlias")}
# What takes items, and which; their classes find these methods before any instance could have its own
CONTAINERS = {
    "collections:OrderedDict": "dict",
    "collections:defaultdict": "dict",
    "collections:Counter": "dict",
    "collections:deque": "list",
    "sklearn.utils._bunch:Bunch": "dict",
}


def reduce(machine: Machine, _: object) -> None:
    """REDUCE: call something with a tuple."""
    arguments, called = machine.pop(), machine.pop()
    machine.acts = True
    if isinstance(called, Imported) and isinstance(arguments, tuple):
        _call(machine, called, arguments)
    elif isinstance(called, Imported):
        _refused(machine, f"it calls {called.module}.{called.name} with arguments that cannot be told")
    else:
        _refused(machine, "it calls what another call returned, which no reader can name")


def _call(machine: Machine, called: Imported, arguments: tuple[Value, ...]) -> None:
    if called == RECONSTRUCTOR:
        _reconstruct(machine, arguments)
    elif called == BUILTIN_TYPE and arguments in BUILTIN_TYPES:
        # A look-up by a constant: its result is as good as an import
        machine.push(machine.imported(*BUILTIN_TYPES[arguments]))
    elif called == ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
        _encoded(machine, arguments[0])
    else:
        if called == BYTEARRAY and arguments != () and arguments[0] not in (Some.BYTES, Some.TEXT) and not isinstance(arguments[0], str):
            machine.problem("it makes a bytearray of a length of its choice")
        _make(machine, called, Use.CALLED, arguments)


def _make(machine: Machine, what: Imported, use: Use, arguments: tuple[Value, ...] = ()) -> None:
    machine.used(what, use, given(arguments))
    kind = CONTAINERS.get(what.path)
    made = Made(what.path, use, arguments, held=Held(kind) if kind else None)
    machine.made.append(made)
    machine.push(made)


def _encoded(machine: Machine, text: Value) -> None:
    """Take how protocols 0 to 2 write bytes for what it is: a text in Latin-1."""
    if isinstance(text, str):
        machine.carry(text.encode("latin-1", "replace"))
    machine.push(Some.BYTES)


def _reconstruct(machine: Machine, arguments: tuple[Value, ...]) -> None:
    """Take how protocols 0 and 1 make an object for what it is, and nothing else."""
    if len(arguments) == 3 and isinstance(arguments[0], Imported) and arguments[1:] == (OBJECT, Some.NONE):
        machine.used(RECONSTRUCTOR, Use.CALLED)
        _make(machine, arguments[0], Use.MADE)
    else:
        _refused(machine, "it calls copyreg._reconstructor with more than a class to make an object of")


def given(arguments: tuple[Value, ...]) -> tuple[str, ...]:
    """Return the imports among arguments, in containers too."""
    return tuple(dict.fromkeys(found.path for found in leaves(arguments) if isinstance(found, Imported)))


def leaves(values: Sequence[Value]) -> Iterator[Value]:
    """Give what is no plain container among values and within their containers, each container once."""
    seen: set[int] = set()
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, tuple):
            left += value
        elif isinstance(value, Held):
            if id(value) not in seen:
                seen.add(id(value))
                left += value.items
        else:
            yield value


def new(machine: Machine, _: object) -> None:
    """NEWOBJ: make an object of a class, with a tuple."""
    arguments, made = machine.pop(), machine.pop()
    machine.acts = True
    if not isinstance(made, Imported) or not isinstance(arguments, tuple):
        _refused(machine, "it makes an object of a class that cannot be told")
    else:
        _make(machine, made, Use.CALLED if arguments else Use.MADE, arguments)


def build(machine: Machine, _: object) -> None:
    """BUILD: give an object its state."""
    state = machine.pop()
    machine.acts = True
    made = machine.stack[-1] if machine.stack else None
    if not isinstance(made, Made):
        machine.problem("it writes attributes into something that it did not make, such as a class or a function")
    elif made.state is not None:
        machine.problem("it writes attributes twice into one object")
    else:
        made.state = state


def instance(machine: Machine, argument: object) -> None:
    """INST: import, and call with what lies above the mark; no pickler of Python 3 writes it."""
    machine.to_mark()
    module, _, name = str(argument).partition(" ")
    machine.used(machine.imported(module, name), Use.CALLED)
    _refused(machine, "it has the opcode INST: no pickler of Python 3 writes it")


def call_above_mark(machine: Machine, _: object) -> None:
    """OBJ: call the first above the mark with the others."""
    items = machine.to_mark()
    if items and isinstance(items[0], Imported):
        machine.used(items[0], Use.CALLED)
    _refused(machine, "it has the opcode OBJ: no pickler of Python 3 writes it")


def new_with_names(machine: Machine, _: object) -> None:
    """NEWOBJ_EX: make an object of a class, with a tuple and a dict."""
    machine.pop(), machine.pop()
    made = machine.pop()
    if isinstance(made, Imported):
        machine.used(made, Use.CALLED)
    _refused(machine, "it has the opcode NEWOBJ_EX: no library on the allowlist writes it")


def _refused(machine: Machine, why: str) -> None:
    machine.acts = True
    machine.problem(why)
    machine.push(Some.UNTOLD)


def filled(kind: str, taken: int) -> Step:
    """Return how so many values (-1: all to the mark) go into the container of that kind below them."""

    def step(machine: Machine, _: object) -> None:
        items = machine.to_mark() if taken < 0 else [machine.pop() for _item in range(taken)][::-1]
        below = machine.stack[-1] if machine.stack else None
        held = below.held if isinstance(below, Made) else below
        if not isinstance(held, Held) or held.kind != kind:
            machine.problem(f"it adds items to something that is no {kind}, which would call what the file made of it")
        elif isinstance(below, Made) and below.state is not None:
            machine.problem("it adds items to an object whose attributes it has written")
        else:
            held.items += worth_holding(kind, items)

    return step


def worth_holding(kind: str, items: Sequence[Value]) -> Iterator[Value]:
    """Give what has to be looked at in a container; numbers, bytes and None are nothing else wherever they are kept."""
    if kind != "dict":
        yield from (each for each in items if each not in _INERT)
        return
    for key, value in zip(items[::2], items[1::2], strict=False):
        if value not in _INERT or not isinstance(key, str) or key.startswith("__"):
            yield key, value
