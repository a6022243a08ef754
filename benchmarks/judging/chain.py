"""Recorded attempts: a release written as Envoy writes its logs, and counted by the shipped fold.

What thousands of releases are counted by (`counting`) must come to the same, count by count; here that is checked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from benchmarks.judging.counting import FIELDS
from benchmarks.judging.scenarios import LIMIT_MS
from benchmarks.judging.simulator import SECONDS, Ints, Traffic
from fleet.evidence import AttemptCount, Attempts
from traffic.attempts.folder import DEFAULT_LIMITS, Folder
from traffic.attempts.formats import ACCESS_LOG, ACCESS_LOG_FORMAT, ATTEMPTS_LOG, ROUTER_LOG_FORMAT

MODEL: Final = "employment"
CANARY: Final = "sha256:" + "c" * 64
STABLE: Final = "sha256:" + "5" * 64
BEGIN: Final = 1_795_000_000
"""The second of Unix time in which every simulated release begins."""

_REVISIONS: Final = (STABLE, CANARY)


def recorded(several: tuple[Traffic, ...], seconds: int = SECONDS) -> Attempts:
    """Write the first `seconds` of a release as logs, edge by edge, and return what the shipped fold counts in them."""
    return Attempts.merged(_folded(traffic, seconds) for traffic in several)


def table_of(attempts: Attempts, region: str) -> Ints:
    """Return a region's counts in the form of `counting.count`."""
    table = np.zeros((SECONDS, 2, len(FIELDS)), dtype=np.int64)
    for found in attempts.counts:
        if found.region == region:
            table[found.second - BEGIN, _REVISIONS.index(found.revision)] += [_field(found, name) for name in FIELDS]
    return table


def _field(found: AttemptCount, name: str) -> int:
    return int(getattr(found, name))


def _folded(traffic: Traffic, seconds: int) -> Attempts:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        until = int(np.searchsorted(traffic.end_ms, seconds * 1000))
        rows = list(_rows(traffic, until))
        (folder / ATTEMPTS_LOG).write_bytes(b"".join(_lines(rows, ROUTER_LOG_FORMAT, traffic.place.name)))
        (folder / ACCESS_LOG).write_bytes(b"".join(_lines(rows, ACCESS_LOG_FORMAT, traffic.place.name)))
        return _counted(folder, traffic.place.name, BEGIN + seconds)


def _counted(folder: Path, region: str, end: int) -> Attempts:
    fold = Folder(folder, f"edge-{region}", lambda _: LIMIT_MS, keep_raw=True, now=lambda: end + 2 * DEFAULT_LIMITS.delay, reopen=_no_envoy)
    try:
        while (found := fold.attempts(MODEL, BEGIN, end)).complete_to < end:
            fold.turn()
        return found
    finally:
        fold.close()


def _no_envoy() -> None:
    """There is no Envoy behind these logs that could open them anew."""


def _rows(traffic: Traffic, until: int) -> Iterator[tuple[Mapping[str, object], bool]]:
    """Return what both of an attempt's lines say, and whether the canary answered."""
    columns = (traffic.start_ms, traffic.took_ms, traffic.caller, traffic.canary, traffic.bad, traffic.broken, traffic.score)
    listed = zip(*(column[:until].tolist() for column in columns), strict=True)
    for number, (start, took, caller, canary, bad, broken, score) in enumerate(listed):
        yield (
            {
                "caller": f"10.0.{caller // 250}.{caller % 250 + 1}",
                "code": (0 if broken else 503) if bad else 200,
                "connection": caller,
                "duration_ms": took,
                "flags": "UC" if broken else "-",
                "id": f"r{number}",
                "score": None if score < 0 else f"{score / 1_000_000:.6f}",
                "start_ms": str(BEGIN * 1000 + start),
            },
            canary,
        )


def _lines(rows: list[tuple[Mapping[str, object], bool]], form: Mapping[str, str], region: str) -> Iterator[bytes]:
    """Write a log: one JSON object a line, its keys in order, as Envoy does."""
    is_access = "tries" in form
    fixed = [_fixed(form, region, revision) for revision in _REVISIONS]
    unknown = {name for row, _ in rows[:1] for name in row} - set(form)
    for row, canary in rows:
        said = fixed[canary] | row
        for name in unknown:
            del said[name]
        if is_access and row["code"] == 0:
            said["code"] = 503
        yield orjson.dumps(said, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _fixed(form: Mapping[str, str], region: str, revision: str) -> dict[str, object]:
    usual: dict[str, object] = {
        "cluster": f"{MODEL}|{revision[7:19]}|{region}",
        "cluster_model": MODEL,
        "cluster_region": region,
        "cluster_revision": revision,
        "host": "127.0.0.1:7420",
        "host_region": region,
        "host_revision": revision,
        "tries": 1,
        "details": "via_upstream",
        "route": MODEL,
        "path": f"/v2/models/{MODEL}/infer",
    }
    return {name: usual.get(name) for name in form}
