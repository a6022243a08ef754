"""Landlock: hides files and refuses TCP without any privilege, where namespaces are refused (as in most containers).

https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from fleet.kernel import numbered_call
from policies.file_tree import DEVICES, ETC, SYSTEM

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE, _READ, _READ_DIR, _TRUNCATE, _IOCTL = 1, 2, 4, 8, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
# How many rights on files each version of the interface knows (their bits follow each other)
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_RIGHTS_NOW = 16
_TCP, _SOCKETS_AND_SIGNALS = 0b11, 0b11
_WITH_TCP, _WITH_SCOPES = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Return the version of the kernel's interface; 0 where there is none."""
    try:
        return numbered_call("landlock", _CREATE, None, 0, _ASK_VERSION)
    except OSError:
        return 0


def refuses_tcp() -> bool:
    """Return whether the kernel's Landlock can refuse TCP."""
    return version() >= _WITH_TCP


def enter(scratch: Path, reads: Iterable[str], lists: Iterable[str]) -> None:
    """Confine this process and its children: system and `reads` are read-only, the scratch folder free, the rest closed.

    Below `lists`, names are seen and nothing else. Other processes' memory and environment are closed with it. Needs
    no_new_privs; raises OSError where refused.
    """
    known = version()
    every = (1 << _RIGHTS.get(known, _RIGHTS_NOW)) - 1
    wanted = bytes(_Ruleset(every, _TCP if known >= _WITH_TCP else 0, _SOCKETS_AND_SIGNALS if known >= _WITH_SCOPES else 0))
    rules = numbered_call("landlock", _CREATE, wanted, _size(known), 0)
    try:
        for path in (*SYSTEM, *ETC, *reads, "/proc"):
            _allow(rules, path, (_EXECUTE | _READ | _READ_DIR) & every)
        for path in lists:
            _allow(rules, path, _READ_DIR)
        for path in DEVICES:
            _allow(rules, path, (_READ | _WRITE) & every)
        _allow(rules, str(scratch), every)
        numbered_call("landlock", _RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _size(known: int) -> int:
    """Return how many bytes of the ruleset a version knows."""
    if known < _WITH_TCP:
        return 8
    return 16 if known < _WITH_SCOPES else 24


def _allow(rules: int, path: str, rights: int) -> None:
    """Allow rights on what lies at or below a path; one that does not exist needs none."""
    with contextlib.suppress(FileNotFoundError):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            allowed = rights if Path(path).is_dir() else rights & _OF_FILES
            numbered_call("landlock", _ADD_RULE, rules, _PATH_BENEATH, bytes(_Beneath(allowed, opened)), 0)
        finally:
            os.close(opened)
