"""What each opcode does to the machine (Lib/pickletools.py has them all), and which are refused whatever they would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from policies.files.seen import Use
from policies.files.values import Imported, Machine, Refused, Some, Value

LONGEST_TEXT = 1 << 12
NEWEST_PROTOCOL = 5
BUFFER_CHECKED = 1 << 20


def step(machine: Machine, name: str, argument: object) -> None:
    """Take one step; raises Refused where the walk cannot go on."""
    if name in _CONSTANTS:
        machine.push(_CONSTANTS[name])
    elif name in _TEXTS:
        _text(machine, argument)
    elif name in _BYTES:
        _carry(machine, argument)
        machine.push(Some.BYTES)
    elif name in _STEPS:
        _STEPS[name](machine, argument)
    elif name in _REFUSED:
        machine.acts = True
        machine.problem(f"it has the opcode {name}: {_REFUSED[name]}")
        machine.push(Some.MADE)
    else:
        raise Refused(f"it has the opcode {name}, which is not known here")


def _text(machine: Machine, argument: object) -> None:
    text = argument if isinstance(argument, str) else argument.decode("latin-1") if isinstance(argument, bytes) else ""
    if len(text) < BUFFER_CHECKED:
        _carry(machine, text.encode("utf-8", "surrogatepass"))
    machine.push(text if len(text) <= LONGEST_TEXT else Some.TEXT)


def _carry(machine: Machine, argument: object) -> None:
    """Keep what may be a pickle inside the pickle, to be walked as well."""
    if isinstance(argument, bytes | bytearray) and 1 < len(argument) <= BUFFER_CHECKED and _may_begin(argument[:2]):
        machine.carried.append(bytes(argument))


def _may_begin(two: bytes | bytearray) -> bool:
    return (two[0] == 0x80 and two[1] <= NEWEST_PROTOCOL) or two[:1] in (b"c", b"(")


def _global(machine: Machine, argument: object) -> None:
    module, _, name = str(argument).partition(" ")
    machine.push(machine.imported(module, name))


def _stack_global(machine: Machine, _: object) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        machine.acts = True
        raise Refused("it imports by a name that is put together only when it is loaded")
    machine.push(machine.imported(module, name))


def _reduce(machine: Machine, _: object) -> None:
    arguments, called = machine.pop(), machine.pop()
    machine.acts = True
    if not isinstance(called, Imported):
        machine.problem("it calls what another call returned, which no reader can name")
    elif not isinstance(arguments, tuple):
        machine.problem(f"it calls {called.module}.{called.name} with arguments that cannot be told")
    elif called == RECONSTRUCTOR:
        _reconstruct(machine, arguments)
    elif called == BUILTIN_TYPE and arguments in BUILTIN_TYPES:
        # A look-up by a constant: its result is as good as an import
        machine.push(machine.imported(*BUILTIN_TYPES[arguments]))
        return
    elif called == ENCODE and len(arguments) == 2 and arguments[1] == "latin1":
        _encoded(machine, arguments[0])
        return
    else:
        machine.used(called, Use.CALLED, _given(arguments))
        if called == BYTEARRAY and arguments != () and arguments[0] not in (Some.BYTES, Some.TEXT) and not isinstance(arguments[0], str):
            machine.problem("it makes a bytearray of a length of its choice")
    machine.push(Some.MADE)


def _encoded(machine: Machine, text: Value) -> None:
    """Take how protocols 0 to 2 write bytes for what it is: a text in Latin-1."""
    if isinstance(text, str):
        _carry(machine, text.encode("latin-1", "replace"))
    machine.push(Some.BYTES)


def _reconstruct(machine: Machine, arguments: tuple[Value, ...]) -> None:
    """Take how protocols 0 and 1 make an object for what it is, and nothing else."""
    if len(arguments) == 3 and isinstance(arguments[0], Imported) and arguments[1:] == (OBJECT, Some.NONE):
        machine.used(RECONSTRUCTOR, Use.CALLED)
        machine.used(arguments[0], Use.MADE)
    else:
        machine.problem("it calls copyreg._reconstructor with more than a class to make an object of")


def _given(arguments: tuple[Value, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found.path for found in _imports_in(arguments)))


def _imports_in(values: Sequence[Value]) -> Iterator[Imported]:
    for value in values:
        if isinstance(value, Imported):
            yield value
        elif isinstance(value, tuple):
            yield from _imports_in(value)


def _new(machine: Machine, _: object) -> None:
    arguments, made = machine.pop(), machine.pop()
    machine.acts = True
    if not isinstance(made, Imported) or not isinstance(arguments, tuple):
        machine.problem("it makes an object of a class that cannot be told")
    else:
        machine.used(made, Use.CALLED if arguments else Use.MADE, _given(arguments))
    machine.push(Some.MADE)


def _build(machine: Machine, _: object) -> None:
    machine.pop()
    machine.acts = True
    if not machine.stack or machine.stack[-1] is not Some.MADE:
        machine.problem("it writes attributes into something that it did not make, such as a class or a function")


def _instance(machine: Machine, argument: object) -> None:
    """INST: import, and call with what lies above the mark; no pickler of Python 3 writes it."""
    machine.to_mark()
    module, _, name = str(argument).partition(" ")
    machine.used(machine.imported(module, name), Use.CALLED)
    machine.acts = True
    machine.problem("it has the opcode INST: no pickler of Python 3 writes it")
    machine.push(Some.MADE)


def _object(machine: Machine, _: object) -> None:
    items = machine.to_mark()
    if items and isinstance(items[0], Imported):
        machine.used(items[0], Use.CALLED)
    machine.acts = True
    machine.problem("it has the opcode OBJ: no pickler of Python 3 writes it")
    machine.push(Some.MADE)


def _new_with_names(machine: Machine, _: object) -> None:
    machine.pop(), machine.pop()
    made = machine.pop()
    if isinstance(made, Imported):
        machine.used(made, Use.CALLED)
    machine.acts = True
    machine.problem("it has the opcode NEWOBJ_EX: no library on the allowlist writes it")
    machine.push(Some.MADE)


def _filled(taken: int) -> Callable[[Machine, object], None]:
    """Return how so many values (-1: all to the mark) go into what lies below them."""

    def step(machine: Machine, _: object) -> None:
        if taken < 0:
            machine.to_mark()
        else:
            for _item in range(taken):
                machine.pop()
        if not machine.stack or machine.stack[-1] not in (Some.CONTAINER, Some.MADE):
            machine.problem("it adds items to something that is neither a container nor made by it")

    return step


def _gathered(kind: Some) -> Callable[[Machine, object], None]:
    def step(machine: Machine, _: object) -> None:
        machine.to_mark()
        machine.push(kind)

    return step


def _tuple_of(size: int) -> Callable[[Machine, object], None]:
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


RECONSTRUCTOR, OBJECT, BYTEARRAY = Imported("copyreg", "_reconstructor"), Imported("builtins", "object"), Imported("builtins", "bytearray")
# How protocols 0 to 2 write bytes
ENCODE = Imported("_codecs", "encode")
# How cloudpickle writes list[str], say, as the type of an argument
BUILTIN_TYPE = Imported("cloudpickle.cloudpickle", "_builtin_type")
BUILTIN_TYPES: dict[tuple[Value, ...], tuple[str, str]] = {("GenericAlias",): ("types", "GenericAlias")}
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "NEWTRUE", "NEWFALSE")
_CONSTANTS: dict[str, Value] = {
    **dict.fromkeys(_NUMBERS, Some.NUMBER),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), Some.CONTAINER),
    "NONE": Some.NONE,
    "EMPTY_TUPLE": (),
}
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_REFUSED = {
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "it names an import by a number that only the loading process can resolve"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "it leaves to the loading program what is loaded"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "it takes bytes from outside the file"),
}
_STEPS: dict[str, Callable[[Machine, object], None]] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new,
    "NEWOBJ_EX": _new_with_names,
    "INST": _instance,
    "OBJ": _object,
    "BUILD": _build,
    "APPEND": _filled(1),
    "APPENDS": _filled(-1),
    "SETITEM": _filled(2),
    "SETITEMS": _filled(-1),
    "ADDITEMS": _filled(-1),
    "LIST": _gathered(Some.CONTAINER),
    "DICT": _gathered(Some.CONTAINER),
    "FROZENSET": _gathered(Some.CONTAINER),
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
