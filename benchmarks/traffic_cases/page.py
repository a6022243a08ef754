"""The edge's part of docs/benchmarks.md: beside a bare Envoy, then every case in one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.tables import table
from benchmarks.traffic_cases.figures import APART, CONFIRMED, COUNTED, FAILED, LATE, LOAD, OURS, SENT, SILENT, SLOWEST

Row = dict[str, Any]
MOMENTS = (SILENT, CONFIRMED, APART)
BESIDE = """### Beside a bare Envoy

The same open-loop load of 200 requests a second goes in turn to one server without a proxy, to a bare Envoy, to one with an access log of
its own, and to Convoy's edge; whoever is not in turn is stopped or has nothing to do. All proxies run one thread over the same servers,
which answer at once, a tenth of the requests on the canary. The bare Envoy has the simplest static configuration: no retries, no health
checks, no limits. Ratios are taken within each round; the spread is that of the rounds.
"""
CASES = """### While things change

One open-loop load of 200 requests a second runs through all cases; servers take 50 ms for an answer, so that some requests are under way
at each of them whenever one is lost. Every request belongs to the case during which it was due. One without a 200 **failed**. It was the
server's doing if the server itself answered with something else, or was lost after its answer had begun; **all else counts as Convoy's**,
for in each case another server was well: a request that its server took to its death before it answered is sent to another one.
The slowest answer, from when its request was due, shows what callers wait for instead; beside it stands by how much the load itself sent a
request late at worst: where that is much, the machine was too busy for the case to show anything. The three edges have a load each, which
together are as large.
"""


def section(document: dict[str, Any]) -> list[str]:
    """Return the lines below the heading."""
    rows: list[Row] = document["rows"]
    counted = [row for row in rows if row["subject"] in COUNTED]
    moments = [row for row in rows if row["subject"] in MOMENTS]
    load = [row for row in rows if row["row"] == LOAD]
    rest = [row for row in rows if row not in [*counted, *moments, *load]]
    return [
        *(*BESIDE.splitlines(), "", *table(rest)),
        *(*CASES.splitlines(), "", *cases(counted), ""),
        *("### How soon", "", *table([*moments, *load])),
    ]


def cases(rows: Sequence[Row]) -> list[str]:
    """Return a line for each case."""
    by_case: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_case.setdefault(row["row"], {})[row["subject"]] = row
    head = "| case | times | requests | failed | by Convoy's doing | asked for | met | slowest answer | sent late by up to |"
    return [head, "|---|---|---|---|---|---|---|---|---|", *(_line(name, found) for name, found in by_case.items())]


def _line(name: str, found: dict[str, Row]) -> str:
    ours = found[OURS]
    met = {None: "", True: "yes", False: "**no**"}[ours.get("met")]
    counted = " | ".join(_figure(found[each]) for each in (SENT, FAILED, OURS))
    waited = " | ".join(_figure(found[each], " ms") for each in (SLOWEST, LATE))
    return f"| {name} | {found[SENT]['rounds']} | {counted} | at most {ours['target']:g} | {met} | {waited} |"


def _figure(row: Row, unit: str = "") -> str:
    return f"not run: {row['skipped']}" if row.get("skipped") else f"{row['figure']:,}{unit}"
