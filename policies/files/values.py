"""The values and the state of the pickle machine, where a value is only a kind of value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from policies.files.seen import Import, Use

MOST_PROBLEMS = 5
NEWEST_PROTOCOL = 5
BUFFER_CHECKED = 1 << 20
# The names that Python 2 had for what protocols 0 to 2 still write; every other old name is refused as it stands
OLD_MODULES = {"copy_reg": "copyreg", "__builtin__": "builtins"}


class Some(Enum):
    """A value of which only the kind matters."""

    NUMBER = "a number"
    BYTES = "bytes"
    NONE = "None"
    UNTOLD = "an object that cannot be told"
    TEXT = "a long text"


@dataclass(frozen=True, slots=True)
class Imported:
    """What GLOBAL or STACK_GLOBAL left on the stack."""

    module: str
    name: str

    @property
    def path(self) -> str:
        """Its name as `Import.path` has it."""
        return f"{self.module}:{self.name}"


@dataclass(eq=False, slots=True)
class Held:
    """A list, dict, set or frozenset, and everything that was ever put into it; a dict's items are pairs."""

    kind: str
    items: list[Value] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Made:
    """An object: which class or function made it of which arguments, and what was then put into it.

    `state` is what BUILD gave it (None before), `held` its items where it is a container of the standard library or the like.
    """

    path: str
    use: Use
    arguments: tuple[Value, ...] = ()
    state: Value | None = None
    held: Held | None = None


Value = Some | Imported | Held | Made | str | tuple["Value", ...]


class Refused(Exception):
    """The walk cannot go on, for the reason given."""


@dataclass(slots=True)
class Machine:
    """The stack, the memo, and what has been found."""

    stack: list[Value] = field(default_factory=list)
    marked: list[list[Value]] = field(default_factory=list)
    memo: dict[int, Value] = field(default_factory=dict)
    imports: dict[Import, None] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    carried: list[bytes] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    steps: int = 0
    protocol: int = 0
    acts: bool = False

    def push(self, value: Value) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Value:
        """Take the topmost value."""
        if not self.stack:
            raise Refused("it takes from an empty stack")
        return self.stack.pop()

    def to_mark(self) -> list[Value]:
        """Take everything down to the last mark."""
        if not self.marked:
            raise Refused("it looks for a mark that is not there")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def problem(self, what: str) -> None:
        """Note what is wrong."""
        if what not in self.problems and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(what)

    def imported(self, module: str, name: str) -> Imported:
        """Note an import under the name that the unpickler would look up."""
        found = Imported(OLD_MODULES.get(module, module) if self.protocol < 3 else module, name)
        self.used(found, Use.NAMED)
        return found

    def used(self, what: Imported, use: Use, given: tuple[str, ...] = ()) -> None:
        """Note what is done with something imported."""
        self.imports[Import(what.module, what.name, use, given)] = None

    def carry(self, data: object) -> None:
        """Keep what may be a pickle inside the pickle, to be walked as well."""
        if isinstance(data, bytes | bytearray) and 1 < len(data) <= BUFFER_CHECKED and _may_begin(data[:2]):
            self.carried.append(bytes(data))


def _may_begin(two: bytes | bytearray) -> bool:
    return (two[0] == 0x80 and two[1] <= NEWEST_PROTOCOL) or two[:1] in (b"c", b"(")
