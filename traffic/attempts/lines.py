"""One line of a log, read into a value.

What Envoy 1.40 writes in each case was tried with the real one (tests/traffic/test_traffic_attempts_envoy.py):

    attempt                                   code  flags      counted as
    an answer below 500                       code  -          answered
    an answer of 500 or more                  code  -          bad
    connection refused or timed out           0     UF         bad
    closed or reset before the headers        0     UC         bad
    not HTTP                                  0     UPE        bad
    reset in the middle of the body           200   UPE, UC    bad
    a try that outlasts per_try_timeout       0     UT         bad
    circuit breaker full                      0     UO         bad, for the cluster's revision (often no host at all)
    the route's timeout, or the client left   0     -          unclear: the request's line tells
    cut off in the body by the route timeout  200   -          answered; the request's line (200, UT) makes it bad
    no healthy host (503 UH), no cluster (NC) no line at all: only the request's line tells
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

LIVE = "live"
NO_FLAGS = "-"
LATEST_MS = 2**47
"""No time is later than this (the year 6429): a greater number is a broken line."""

LEAVING_FLAGS = frozenset({"DC", "DR", "DPE"})
"""The downstream side ended it: disconnected, reset the stream or broke the protocol."""
TIMEOUT_FLAG = "UT"
OVERFLOW_FLAG = "UO"
ANSWER = re.compile(r"(?:-|(-?[0-9]{1,15}\.[0-9]{6}));([0-9a-f]{16})")
"""The value of `formats.ANSWER_HEADER`."""

Mask = Callable[[str], str]
"""Turns a caller's address into something that cannot be turned back."""


class Malformed(ValueError):
    """The line is not one that Envoy writes: torn, or of another format."""


class Series(NamedTuple):
    """Who is counted: a revision of a model in a region, for one class of traffic."""

    model: str
    revision: str
    region: str
    traffic: str


class Kind(StrEnum):
    """What an attempt's own line says about it."""

    ANSWERED = "answered"
    BAD = "bad"
    UNCLEAR = "unclear"


class Answer(NamedTuple):
    """What a serving process said of its answer: a mark that equal answers share, and the score, if it has one."""

    mark: str
    score: float | None


REFUSED = Answer("", None)
"""An answer that is no success, like a 422: its mark is like no other."""


class Attempt(NamedTuple):
    """One upstream attempt; times are Unix milliseconds.

    `caller` is masked, and empty where nothing went wrong and nothing was slow, or where nobody knows the caller.
    `join` and `answer` are there for the comparison with a shadow.
    """

    key: str
    start_ms: int
    end_ms: int
    routed: Series
    served: Series
    kind: Kind
    broken: bool
    caller: str
    slow: bool = False
    join: str = ""
    answer: Answer | None = None


class Request(NamedTuple):
    """One request as its caller saw it; `served` is where its last attempt went, if any did. `caller` is masked."""

    key: str
    start_ms: int
    end_ms: int
    routed: Series
    served: Series | None
    code: int
    left: bool
    cut_off: bool
    caller: str


class Unrouted(NamedTuple):
    """A request that was given to no cluster of ours; `failed` where it was answered with a 5xx."""

    end_ms: int
    failed: bool


class Plain(NamedTuple):
    """A request of which the attempts' lines tell all: one attempt, on the chosen revision, nothing unusual."""

    end_ms: int


def read_attempt(line: bytes, mask: Mask, slow_ms: Callable[[str], float]) -> Attempt | Unrouted:
    """Read a line of attempts.log, with what `slow_ms` says is a model's limit; raises Malformed."""
    try:
        row = orjson.loads(line)
        start, end = _times(row)
        routed = _routed(row)
        if routed is None:
            return Unrouted(end, False)
        code, flags = _number(row["code"]), _text(row["flags"])
        kind, broken = _kind(code, flags, routed.traffic)
        served = routed if OVERFLOW_FLAG in flags else _served(row, routed) or routed
        slow = not broken and end - start > slow_ms(routed.model)
        caller = _masked(row, mask) if slow or kind is not Kind.ANSWERED else ""
        answer = _answer(row, code) if kind is Kind.ANSWERED else None
        return Attempt(_key(row), start, end, routed, served, kind, broken, caller, slow, _said(row, "join"), answer)
    except (ValueError, TypeError, KeyError) as problem:
        raise Malformed(str(problem)) from problem


def read_request(line: bytes, mask: Mask) -> Request | Unrouted | Plain:
    """Read a line of access.log; raises Malformed."""
    try:
        row = orjson.loads(line)
        start, end = _times(row)
        routed, code, flags = _routed(row), _number(row["code"]), _text(row["flags"])
        if routed is None:
            return Unrouted(end, code >= 500)
        served = _served(row, routed)
        if flags == NO_FLAGS and row["tries"] == 1 and served is not None and served.revision == routed.revision:
            return Plain(end)
        flagged = frozenset(flags.split(","))
        left, cut_off = bool(flagged & LEAVING_FLAGS), TIMEOUT_FLAG in flagged and 0 < code < 500
        return Request(_key(row), start, end, routed, served, code, left, cut_off, _masked(row, mask))
    except (ValueError, TypeError, KeyError) as problem:
        raise Malformed(str(problem)) from problem


def _kind(code: int, flags: str, traffic: str) -> tuple[Kind, bool]:
    if code >= 500:
        return Kind.BAD, False
    if flags != NO_FLAGS and not frozenset(flags.split(",")) & LEAVING_FLAGS:
        return Kind.BAD, True
    if code > 0:
        return Kind.ANSWERED, False
    # A mirrored attempt does not end with its client's request: nobody left it
    return (Kind.UNCLEAR, True) if traffic == LIVE else (Kind.BAD, True)


def _times(row: Any) -> tuple[int, int]:
    start = int(row["start_ms"])
    end = start + _number(row["duration_ms"])
    if not 0 <= start <= end < LATEST_MS:
        raise ValueError("time out of range")
    return start, end


def _routed(row: Any) -> Series | None:
    if row["cluster_model"] is None:
        return None
    traffic = LIVE if row["traffic"] is None else _text(row["traffic"])
    return Series(_text(row["cluster_model"]), _text(row["cluster_revision"]), _text(row["cluster_region"]), traffic)


def _served(row: Any, routed: Series) -> Series | None:
    if row["host_revision"] is None:
        return None
    return Series(routed.model, _text(row["host_revision"]), _text(row["host_region"]), routed.traffic)


def _key(row: Any) -> str:
    return f"{int(row['connection'])}/{row['id']}"


def _masked(row: Any, mask: Mask) -> str:
    return "" if row["caller"] is None else mask(_text(row["caller"]))


def _answer(row: Any, code: int) -> Answer | None:
    """Read what is said of an answer; None where a server said nothing that we know, or an older agent's Envoy wrote the line."""
    if code >= 300:
        return REFUSED
    said = ANSWER.fullmatch(_said(row, "answer"))
    return Answer(said[2], None if said[1] is None else float(said[1])) if said else None


def _said(row: Any, name: str) -> str:
    value = row.get(name)
    return "" if value is None else _text(value)


def _number(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int):
        raise TypeError("number expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value
