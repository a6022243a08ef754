"""System calls that Python 3.11 has no name for; the standard library alone, so that it loads quickly and anywhere."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: bytes | int | None) -> int:
    """Call a function of the C library; raises OSError where it returns less than 0."""
    return _checked(name, getattr(_libc, name)(*map(_native, arguments)))


def numbered_call(name: str, number: int, *arguments: bytes | int | None) -> int:
    """Call the kernel by number, for what the C library does not wrap; raises OSError where it returns less than 0."""
    return _checked(name, _libc.syscall(ctypes.c_long(number), *map(_native, arguments)))


def _native(argument: bytes | int | None) -> bytes | ctypes.c_ulong | None:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(name: str, returned: int) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(returned)
