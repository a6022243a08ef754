"""A pickle's opcodes, walked without obeying them: what it imports, and what it does with that.

The pickle machine (PEP 307, PEP 3154, Lib/pickle.py) is run over values that are only kinds of values: a text, something
imported, something made, anything else. So a name is resolved as the unpickler would resolve it, through the memo and
over the stack; and what cannot be resolved is a problem, not a guess.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from typing import IO

from policies.files.allowlist import allowlist
from policies.files.kept import MOST_VISITS, Overview
from policies.files.opcodes import step
from policies.files.seen import Import
from policies.files.values import NEWEST_PROTOCOL, Machine, Refused, Some, Value

# How often on average a value may be looked at: some are held by several objects
VISITS_EACH = 20


@dataclass(frozen=True, slots=True)
class Walk:
    """What one pickle does. `end` is where it ends (after STOP), 0 where it does not; `acts` whether it calls or makes anything."""

    imports: tuple[Import, ...]
    problems: tuple[str, ...]
    end: int
    acts: bool
    carried: tuple[bytes, ...]


def walk(file: IO[bytes]) -> Walk:
    """Walk the pickle that begins where the file stands; the file then stands behind it, or behind what could be read."""
    machine, end, root = Machine(), 0, None
    begin = file.tell()
    try:
        for opcode, argument, position in pickletools.genops(file):
            if opcode.name == "PROTO":
                _proto(machine, argument, (position or 0) - begin)
            elif opcode.name == "STOP":
                root = machine.pop()
                end = file.tell()
            else:
                step(machine, opcode.name, argument)
    except Refused as problem:
        machine.problem(str(problem))
    except Exception as problem:  # noqa: BLE001 - pickletools raises what its argument readers happen to raise: each means unreadable
        machine.problem(f"it cannot be read to its end ({_short(problem)})")
    _look_over(machine, root)
    return Walk(tuple(machine.imports), tuple(machine.problems), end, machine.acts, tuple(machine.carried))


def _look_over(machine: Machine, root: Value | None) -> None:
    """Note what the objects keep, once all is in them."""
    found = Overview(allowlist().entries, MOST_VISITS + VISITS_EACH * machine.steps)
    try:
        found.look(machine.made, Some.NONE if root is None else root)
    except Refused as problem:
        machine.problem(str(problem))
    machine.imports |= found.imports
    for what in found.problems:
        machine.problem(what)


def is_pickle(data: bytes) -> bool:
    """Return whether a file that begins so is a pickle, whole or broken: by its sign, or by what an unpickler would do with it."""
    return (data[:1] == b"\x80" and len(data) > 1 and data[1] <= NEWEST_PROTOCOL) or imports_and_acts(data)


def imports_and_acts(data: bytes) -> bool:
    """Return whether an unpickler would import something from these bytes and act on it, or end well."""
    found = walk(io.BytesIO(data))
    # The first import alone: where it fails, nothing has been done yet; where a later one fails, something has
    first = next(iter(found.imports), None)
    return first is not None and _identifier(first.module) and _identifier(first.name) and (found.acts or found.end > 0)


def _identifier(dotted: str) -> bool:
    return all(part.isidentifier() for part in dotted.split("."))


def _short(problem: Exception) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:120]}"


def _proto(machine: Machine, version: object, position: int) -> None:
    if position != 0:
        raise Refused("it changes its protocol on the way, which no pickler writes")
    if not isinstance(version, int) or version > NEWEST_PROTOCOL:
        raise Refused(f"it has protocol {version}, which no Python knows")
    machine.protocol = version
