"""picklescan's opinion of a pickle: it knows what is dangerous, where our list knows what is allowed."""

from __future__ import annotations

import logging
from typing import IO

from policies.files.objects import BUILTIN_TYPE, BUILTIN_TYPES
from policies.files.values import OLD_MODULES

# picklescan knows only that this function can look up types of code; our walk knows by which constant it is called, and the
# allowlist lets it be called by none but those
RESOLVED = (BUILTIN_TYPE.module, BUILTIN_TYPE.name)
LOOKED_UP = frozenset(BUILTIN_TYPES.values())


def second_opinion(file: IO[bytes], name: str, ours: frozenset[tuple[str, str]]) -> tuple[str, ...]:
    """Return what picklescan has against a pickle.

    "Suspicious" is what it does not know, which is not held against names on our allowlist. "Dangerous" is, and so is
    every error, a file that it does not look into, and an import that it does not see although we do, or the other way.
    """
    from picklescan import scanner

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    try:
        found = scanner.scan_pickle_bytes(file, name, multiple_pickles=True)
    except Exception as problem:  # noqa: BLE001 - whatever it raises: a scanner that fails has not passed the file
        return (f"picklescan fails on it ({type(problem).__name__})",)
    if found.scan_err:
        return ("picklescan reports an error",)
    if found.scanned_files == 0:
        return ("picklescan skips it",)
    dangerous = sorted(
        f"{each.module}.{each.name}"
        for each in found.globals
        if each.safety is scanner.SafetyLevel.Dangerous and (each.module, each.name) != RESOLVED
    )
    problems = [f"picklescan calls {name} dangerous" for name in dangerous]
    theirs = {(OLD_MODULES.get(each.module, each.module), each.name) for each in found.globals}
    if theirs != ours - LOOKED_UP:
        differ = ", ".join(sorted(f"{module}.{name}" for module, name in theirs ^ ours))
        problems.append(f"picklescan and our own walk disagree about what it imports ({differ[:200]})")
    return tuple(problems)
