"""Ports for the tests' own servers: none that Linux would give to an outgoing connection meanwhile."""

from __future__ import annotations

import os
import random
import socket

HOST = "127.0.0.1"
PORTS = range(20_000, 32_600)
"""Below the ports of outgoing connections, above those of the stacks that the tests start."""
WORKERS = 16
"""As many parts; each worker of a run chooses in its own."""
_given: set[int] = set()


def free_port() -> int:
    """Return a loopback port that nobody listens on and that was not returned before."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = PORTS[worker % WORKERS :: WORKERS]
    for port in random.sample(own, len(own)):
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"no port is free from {PORTS.start} to {PORTS.stop - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
