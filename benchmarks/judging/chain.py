"""Recorded attempts: a release written as Envoy writes its logs, and counted by the shipped fold.

What thousands of releases are counted by (`counting`) must come to the same, count by count; here that is checked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import orjson

from benchmarks.judging.counting import FIELDS, id_of
from benchmarks.judging.scenarios import LIMIT_MS
from benchmarks.judging.simulator import MILLION, SECONDS, Ints, Traffic
from fleet.evidence import Attempts
from traffic.attempts.folder import DEFAULT_LIMITS, Folder
from traffic.attempts.formats import ACCESS_LOG, ACCESS_LOG_FORMAT, ATTEMPTS_LOG, ROUTER_LOG_FORMAT
from traffic.attempts.terms import Terms

MODEL: Final = "employment"
CANARY: Final = "sha256:" + "c" * 64
STABLE: Final = "sha256:" + "5" * 64
BEGIN: Final = 1_795_000_000
"""The second of Unix time in which every simulated release begins."""

_REVISIONS: Final = (STABLE, CANARY)
_TERMS: Final = Terms(LIMIT_MS, (0.0, 1.0), 0.05)
_ALIKE, _UNLIKE = "a" * 16, "b" * 16
_FAR: Final = 500_000
"""How far a shadow's score lies from the live one where they disagree, in millionths and around the circle."""

Row: TypeAlias = dict[str, object]


def recorded(several: Sequence[Traffic], seconds: int = SECONDS) -> Attempts:
    """Write the first `seconds` of a release as logs, edge by edge, and return what the shipped fold counts in them."""
    return Attempts.merged(_folded(traffic, seconds) for traffic in several)


def table_of(attempts: Attempts, region: str) -> Ints:
    """Return a region's counts in the form of `counting.count`."""
    table = np.zeros((SECONDS, 2, len(FIELDS)), dtype=np.int64)
    for found in attempts.counts:
        if found.region == region and found.traffic == "live":
            table[found.second - BEGIN, _REVISIONS.index(found.revision)] += [int(getattr(found, name)) for name in FIELDS]
    return table


def pairs_of(attempts: Attempts, region: str) -> Ints:
    """Return a region's pairs in the form of `counting.count_pairs`."""
    table = np.zeros((SECONDS, 2), dtype=np.int64)
    for found in attempts.pairs:
        if found.region == region and found.revision == CANARY:
            table[found.second - BEGIN] += [found.pairs, found.disagreed]
    return table


def lines_of(traffic: Traffic, seconds: int = SECONDS) -> tuple[bytes, bytes]:
    """Return what Envoy writes into attempts.log and access.log, each line at its attempt's or request's end."""
    region = traffic.place.name
    tried, asked = _templates(ROUTER_LOG_FORMAT, region), _templates(ACCESS_LOG_FORMAT, region)
    attempts: list[tuple[int, bytes]] = []
    requests: list[bytes] = []
    for number, (end, shadow_end, canary, request, attempt, shadow) in enumerate(_stories(traffic)):
        if end < seconds * 1000:
            attempts.append((end, _line(tried[canary], attempt, number)))
            requests.append(_line(asked[canary], request, number))
        if shadow is not None and shadow_end < seconds * 1000:
            attempts.append((shadow_end, _line(tried[True], shadow, number)))
    attempts.sort(key=lambda one: one[0])
    return b"".join(line for _, line in attempts), b"".join(requests)


def _folded(traffic: Traffic, seconds: int) -> Attempts:
    end = BEGIN + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        attempts, requests = lines_of(traffic, seconds)
        (folder / ATTEMPTS_LOG).write_bytes(attempts)
        (folder / ACCESS_LOG).write_bytes(requests)
        now = end + 2 * DEFAULT_LIMITS.delay
        fold = Folder(folder, f"edge-{traffic.place.name}", lambda _: _TERMS, keep_raw=True, now=lambda: now, reopen=_no_envoy)
        try:
            while (found := fold.attempts(MODEL, BEGIN, end)).complete_to < end:
                fold.turn()
            return found
        finally:
            fold.close()


def _no_envoy() -> None:
    """There is no Envoy behind these logs that could open them anew."""


def _stories(traffic: Traffic) -> Iterator[tuple[int, int, bool, Row, Row, Row | None]]:
    """Tell of each attempt when it and its shadow ended, who answered, and what its request's, its own and its shadow's lines say."""
    columns = (
        traffic.start_ms,
        traffic.took_ms,
        traffic.caller,
        traffic.canary,
        traffic.bad,
        traffic.broken,
        traffic.score,
        traffic.shadow_ms,
        traffic.disagreed,
    )
    listed = zip(*(column.tolist() for column in columns), strict=True)
    for number, (start, took, caller, canary, bad, broken, score, shadow_ms, disagreed) in enumerate(listed):
        shared: Row = {
            "caller": f"10.0.{caller // 250}.{caller % 250 + 1}",
            "connection": caller,
            "duration_ms": took,
            "flags": "UC" if broken else "-",
            "start_ms": str(BEGIN * 1000 + start),
        }
        request = shared | {"code": 503 if bad else 200}
        mirrored = shadow_ms >= 0
        told = {"answer": None if bad else _answer(score, _ALIKE), "join": f"{caller}-{number}" if mirrored else None}
        attempt = shared | told | {"code": 0 if broken else request["code"]}
        shadow = None
        if mirrored:
            answer = _answer((score + _FAR) % MILLION, _UNLIKE) if disagreed else told["answer"]
            shadow = attempt | {"connection": 0, "duration_ms": shadow_ms, "traffic": "shadow", "answer": answer, "caller": None}
        yield start + took, start + shadow_ms, canary, request, attempt, shadow


def _answer(score: int, mark: str) -> str:
    return f"{score / MILLION:.6f};{mark}"


def _line(template: Row, said: Row, number: int) -> bytes:
    # Ordered as Envoy orders its keys
    return orjson.dumps(template | said | {"id": id_of(number)}, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _templates(form: Mapping[str, str], region: str) -> tuple[Row, Row]:
    """Return what every line of a log says of stable, and of the canary."""
    stable, canary = (_template(form, region, revision) for revision in _REVISIONS)
    return stable, canary


def _template(form: Mapping[str, str], region: str, revision: str) -> Row:
    usual: Row = {
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
