"""The block of loopback ports that a stack owns: chosen once, kept for ever, checked before anything starts."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fleet.errors import InputError
from fleet.stack import FIRST_REGION_PORT, HOST, PORTS_IN_A_BLOCK

FIRST_BLOCK = 7400
END_OF_BLOCKS = 32700
"""Above lie the ports that Linux gives to outgoing connections."""
RUNNER_OFFSET = 6
"""The flow runner's health."""
METER_OFFSET = 7
"""The meter's health."""
CLAIM_OFFSET = FIRST_REGION_PORT - 1
"""Held by whoever is starting the stack, so that two homes that start at once take two blocks."""
FIXED = range(METER_OFFSET + 1)
"""The ports that every stack has one server on each; more edges have more, and those of the regions come and go."""


@contextmanager
def claimed(recorded: int | None, wanted: int | None, more: Iterable[int] = ()) -> Iterator[int]:
    """Hold a stack's block while it starts, and yield its first port, all of whose servers' ports are free.

    `recorded` is what the stack has already, `wanted` what the settings ask for; with neither, the first free block
    is taken. `more` are offsets within the block that this stack needs too. Raises InputError that names a taken
    port, its holder and the remedy.
    """
    if recorded is not None and wanted not in (None, recorded):
        raise InputError(
            f"CONVOY_PORT_BASE={wanted}",
            f"this home's stack has its ports from {recorded} on, and they are written into its routes",
            "Unset CONVOY_PORT_BASE, or start another stack with another CONVOY_HOME.",
        )
    base = recorded if recorded is not None else wanted
    offsets = (*FIXED, *more)
    claim = _claim_first_free(offsets) if base is None else _claim(base, offsets)
    with claim:
        yield claim.getsockname()[1] - CLAIM_OFFSET


def _claim_first_free(offsets: Iterable[int]) -> socket.socket:
    for base in range(FIRST_BLOCK, END_OF_BLOCKS, PORTS_IN_A_BLOCK):
        try:
            return _claim(base, offsets)
        except InputError:
            continue
    raise InputError("ports", f"no block of {PORTS_IN_A_BLOCK} ports is free from {FIRST_BLOCK} on", "Set CONVOY_PORT_BASE.")


def _claim(base: int, offsets: Iterable[int]) -> socket.socket:
    """Listen on the claim port, then see that the servers' ports are free; raises InputError."""
    claim = _listener(base + CLAIM_OFFSET)
    try:
        for offset in offsets:
            _listener(base + offset).close()
    except InputError:
        claim.close()
        raise
    return claim


def _listener(port: int) -> socket.socket:
    """Listen on a port; raises InputError when somebody else does."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As the servers do: a port whose last connections only linger is free
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((HOST, port))
        opened.listen(1)
    except OSError as problem:
        opened.close()
        if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise InputError(
            f"port {port} on {HOST}",
            f"is taken by {_holder(port)}" if problem.errno == errno.EADDRINUSE else "is not ours to open",
            "End that process, or start another stack with another CONVOY_HOME, and CONVOY_PORT_BASE if you like.",
        ) from problem
    return opened


def _holder(port: int) -> str:
    """Name the process that listens on a port as far as the system tells us."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    except psutil.Error:
        return "a process that we may not see"
    return "somebody else"
