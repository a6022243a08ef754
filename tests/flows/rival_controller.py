"""A controller that takes a model's lease and then writes without ever looking at it again: `python rival_controller.py CASE LOG`.

Each write is one JSON line: what it was, under which epoch, when it was begun (Unix seconds), and whether it was accepted.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fleet.errors import ConvoyError
from registry.leases import Lease, Leases
from registry.ledger import Ledger, NewEvent
from traffic.edge_client import Edge
from traffic.edges import shift
from traffic.table import RoutingTable, table_from_json

BETWEEN_SECONDS = 0.05


def main(case: dict[str, Any], log: Path) -> None:
    """Take the lease as soon as it can be had, and write until the process is ended."""
    ledger = Ledger(case["ledger"])
    wanted, edges = table_from_json(case["table"].encode()), [Edge(**found) for found in case["edges"]]
    leases = Leases(ledger)
    while (lease := leases.take(wanted.model, case["name"], case["lease_seconds"])) is None:
        time.sleep(BETWEEN_SECONDS)
    with leases.held(lease), log.open("w", buffering=1) as lines:
        for what, write in writes(ledger, edges, lease, replace(wanted, epoch=lease.epoch)):
            begun, refusal = time.time(), ""
            try:
                write()
            except ConvoyError as problem:
                refusal = str(problem)
            lines.write(json.dumps({"what": what, "epoch": lease.epoch, "begun": begun, "accepted": not refusal, "says": refusal}) + "\n")
            time.sleep(BETWEEN_SECONDS)


def writes(ledger: Ledger, edges: list[Edge], lease: Lease, wanted: RoutingTable) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give every kind of write that there is, over and over: a raise for all edges, a table and the safe shares at each, an event."""
    event = NewEvent("release/test-1", "tested", {}, lease.holder, epoch=lease.epoch, model=lease.model)
    for version in itertools.count(1):

        def table(version: int = 2 * version) -> RoutingTable:
            return replace(wanted, version=version, expires_at=time.time() + 60)

        yield "shift", lambda table=table: _shift(edges, table())
        for edge in edges:
            # As one that was prepared before the pause, or lowers: it asks nobody first
            yield f"apply {edge.name}", lambda edge=edge, table=table, version=version: edge.apply(table(2 * version + 1))
            yield f"safe {edge.name}", lambda edge=edge: edge.take_safe_shares(lease.model, lease.epoch)
        yield "event", lambda: ledger.append(event)


def _shift(edges: list[Edge], table: RoutingTable) -> None:
    shifted = shift(edges, table)
    if shifted.failures:
        raise shifted.failures[0].error


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
