"""What each opcode does to the machine (Lib/pickletools.py has them all), and which are refused whatever they would do."""

from __future__ import annotations

from policies.files import objects
from policies.files.values import BUFFER_CHECKED, Held, Machine, Refused, Some, Value

LONGEST_TEXT = 1 << 12


def step(machine: Machine, name: str, argument: object) -> None:
    """Take one step; raises Refused where the walk cannot go on."""
    machine.steps += 1
    if name in _CONSTANTS:
        machine.push(_CONSTANTS[name])
    elif name in _EMPTY:
        machine.push(Held(_EMPTY[name]))
    elif name in _TEXTS:
        _text(machine, argument)
    elif name in _BYTES:
        machine.carry(argument)
        machine.push(Some.BYTES)
    elif name in _STEPS:
        _STEPS[name](machine, argument)
    elif name in _REFUSED:
        machine.acts = True
        machine.problem(f"it has the opcode {name}: {_REFUSED[name]}")
        machine.push(Some.UNTOLD)
    else:
        raise Refused(f"it has the opcode {name}, which is not known here")


def _text(machine: Machine, argument: object) -> None:
    text = argument if isinstance(argument, str) else argument.decode("latin-1") if isinstance(argument, bytes) else ""
    if len(text) < BUFFER_CHECKED:
        machine.carry(text.encode("utf-8", "surrogatepass"))
    machine.push(text if len(text) <= LONGEST_TEXT else Some.TEXT)


def _global(machine: Machine, argument: object) -> None:
    module, _, name = str(argument).partition(" ")
    machine.push(machine.imported(module, name))


def _stack_global(machine: Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine.acts = True
        raise Refused("it imports by a name that is put together only when it is loaded")
    machine.push(machine.imported(module, name))


def _gathered(kind: str) -> objects.Step:
    def step(machine: Machine, _: object) -> None:
        items = machine.to_mark()
        machine.push(Held(kind, list(objects.worth_holding(kind, items))))

    return step


def _tuple_of(size: int) -> objects.Step:
    def step(machine: Machine, _: object) -> None:
        items = [machine.pop() for _item in range(size)]
        machine.push(tuple(reversed(items)))

    return step


def _tuple_to_mark(machine: Machine, _: object) -> None:
    machine.push(tuple(machine.to_mark()))


def _mark(machine: Machine, _: object) -> None:
    machine.marked.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, _: object) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.to_mark()


def _pop_mark(machine: Machine, _: object) -> None:
    machine.to_mark()


def _duplicate(machine: Machine, _: object) -> None:
    value = machine.pop()
    machine.stack += [value, value]


def _top(machine: Machine) -> Value:
    if not machine.stack:
        raise Refused("it remembers the top of an empty stack")
    return machine.stack[-1]


def _put(machine: Machine, argument: object) -> None:
    machine.memo[_index(argument)] = _top(machine)


def _memoize(machine: Machine, _: object) -> None:
    machine.memo[len(machine.memo)] = _top(machine)


def _get(machine: Machine, argument: object) -> None:
    index = _index(argument)
    if index not in machine.memo:
        raise Refused(f"it recalls {index}, which it never remembered")
    machine.push(machine.memo[index])


def _index(argument: object) -> int:
    if not isinstance(argument, int) or argument < 0:
        raise Refused(f"it remembers under {argument!r}, which is no index")
    return argument


def _nothing(machine: Machine, _: object) -> None:
    """Leave everything as it is: a FRAME only says how much to read at once."""


_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "NEWTRUE", "NEWFALSE")
_CONSTANTS: dict[str, Value] = {
    **dict.fromkeys(_NUMBERS, Some.NUMBER),
    "NONE": Some.NONE,
    "EMPTY_TUPLE": (),
}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_REFUSED = {
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "it names an import by a number that only the loading process can resolve"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "it leaves to the loading program what is loaded"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "it takes bytes from outside the file"),
}
_STEPS: dict[str, objects.Step] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": objects.reduce,
    "NEWOBJ": objects.new,
    "NEWOBJ_EX": objects.new_with_names,
    "INST": objects.instance,
    "OBJ": objects.call_above_mark,
    "BUILD": objects.build,
    "APPEND": objects.filled("list", 1),
    "APPENDS": objects.filled("list", -1),
    "SETITEM": objects.filled("dict", 2),
    "SETITEMS": objects.filled("dict", -1),
    "ADDITEMS": objects.filled("set", -1),
    "LIST": _gathered("list"),
    "DICT": _gathered("dict"),
    "FROZENSET": _gathered("frozenset"),
    "TUPLE": _tuple_to_mark,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _duplicate,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "FRAME": _nothing,
}
