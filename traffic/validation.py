"""Has Envoy check configurations before they are used, each shape once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fleet.canonical import digest_of
from traffic.clusters import Cluster
from traffic.envoy import EdgePorts, whole_file
from traffic.gateway import validate
from traffic.table import RoutingTable

SHAPES = 64
WEIGHT = re.compile(rb'"weight":\d+')


class Validator:
    """Remembers which shapes Envoy found valid: two configurations of one shape differ in their weights alone.

    Weights are whole numbers that sum to more than nothing, which the table itself sees to; so what a canary's later
    steps change need not wait for an Envoy to start.
    """

    def __init__(self, ports: EdgePorts) -> None:
        self._ports = ports
        self._valid: deque[str] = deque(maxlen=SHAPES)

    def check(self, clusters: Sequence[Cluster], tables: Sequence[RoutingTable]) -> None:
        """Raise InputError with Envoy's words for a configuration that it would refuse."""
        shape = shape_of(self._ports, clusters, tables)
        if shape not in self._valid:
            validate(self._ports, clusters, tables)
            self._valid.append(shape)


def shape_of(ports: EdgePorts, clusters: Sequence[Cluster], tables: Sequence[RoutingTable]) -> str:
    """Return the digest of a configuration without its weights."""
    return digest_of(WEIGHT.sub(b'"weight":1', whole_file(ports, Path("/"), clusters, tables)))
