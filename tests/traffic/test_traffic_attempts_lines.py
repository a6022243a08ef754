"""Lines as Envoy 1.40 wrote them, and what each is read as."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from traffic.attempts import lines
from traffic.attempts.formats import ACCESS_LOG_FORMAT, ROUTER_LOG_FORMAT
from traffic.attempts.lines import REFUSED, Answer, Attempt, Kind, Malformed, Mask, Plain, Request, Series, Unrouted, read_request

CANARY, STABLE = "sha256:" + "a" * 64, "sha256:" + "b" * 64
START = 1_795_374_306_000
SLOW_MS = 50
MARK = "0123456789abcdef"


def read_attempt(line: bytes, mask: Mask = str) -> Attempt | Unrouted:
    return lines.read_attempt(line, mask, lambda model: SLOW_MS)


def attempt_line(key: str = "one", start: int = START, **fields: object) -> bytes:
    """A line of attempts.log: an answer of the canary, but for `fields`."""
    return _line(dict.fromkeys(ROUTER_LOG_FORMAT), key, start, fields)


def request_line(key: str = "one", start: int = START, **fields: object) -> bytes:
    """A line of access.log: an answer of the canary at the first try, but for `fields`."""
    rest = {"tries": 1, "details": "via_upstream", "path": "/v2/models/employment/infer", "route": "employment"}
    return _line({name: rest.get(name) for name in ACCESS_LOG_FORMAT}, key, start, fields)


def _line(fields: dict[str, object], key: str, start: int, changed: dict[str, object]) -> bytes:
    usual = {
        "caller": "192.0.2.1",
        "cluster": "employment|aaaaaaaaaaaa|r1",
        "cluster_model": "employment",
        "cluster_region": "r1",
        "cluster_revision": CANARY,
        "code": 200,
        "connection": 7,
        "duration_ms": 3,
        "flags": "-",
        "host": "127.0.0.1:7420",
        "host_region": "r1",
        "host_revision": CANARY,
        "id": key,
        "start_ms": str(start),
    }
    return json.dumps(dict(sorted((fields | usual | changed).items())), separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("fields", "kind", "broken"),
    [
        ({}, Kind.ANSWERED, False),
        ({"code": 404}, Kind.ANSWERED, False),
        ({"code": 499}, Kind.ANSWERED, False),
        ({"code": 500}, Kind.BAD, False),
        ({"code": 503}, Kind.BAD, False),
        ({"code": 0, "flags": "UF"}, Kind.BAD, True),
        ({"code": 0, "flags": "UC"}, Kind.BAD, True),
        ({"code": 0, "flags": "UR"}, Kind.BAD, True),
        ({"code": 0, "flags": "UT"}, Kind.BAD, True),
        ({"code": 200, "flags": "UPE"}, Kind.BAD, True),
        ({"code": 200, "flags": "UC"}, Kind.BAD, True),
        ({"code": 0, "flags": "UF,URX"}, Kind.BAD, True),
        ({"code": 0}, Kind.UNCLEAR, True),
        ({"code": None}, Kind.UNCLEAR, True),
        ({"code": 0, "flags": "DC"}, Kind.UNCLEAR, True),
        ({"code": 0, "traffic": "shadow"}, Kind.BAD, True),
    ],
)
def test_an_attempt_is_read_by_its_code_and_flags(fields: dict[str, object], kind: Kind, broken: bool) -> None:
    attempt = read_attempt(attempt_line(**fields), str.upper)
    assert isinstance(attempt, Attempt)
    assert (attempt.kind, attempt.broken) == (kind, broken)


def test_an_attempt_belongs_to_the_endpoint_that_it_went_to_and_an_overflow_to_the_cluster() -> None:
    elsewhere: dict[str, object] = {"host_revision": STABLE, "host_region": "r2"}
    answered, overflow = read_attempt(attempt_line(**elsewhere), str), read_attempt(attempt_line(code=0, flags="UO", **elsewhere), str)
    assert isinstance(answered, Attempt)
    assert isinstance(overflow, Attempt)
    assert answered.served == Series("employment", STABLE, "r2", "live")
    assert overflow.served == answered.routed == Series("employment", CANARY, "r1", "live")


def test_only_what_needs_its_attempts_is_kept_of_the_requests() -> None:
    assert read_request(request_line(), str) == Plain(START + 3)
    assert isinstance(read_request(request_line(tries=2), str), Request)
    assert isinstance(read_request(request_line(host_revision=STABLE), str), Request)
    assert isinstance(read_request(request_line(host_revision=None, code=503, flags="UH"), str), Request)
    assert read_request(request_line(cluster_model=None, code=503, flags="NC"), str) == Unrouted(START + 3, failed=True)
    assert read_request(request_line(cluster_model=None, code=404, flags="NR"), str) == Unrouted(START + 3, failed=False)


@pytest.mark.parametrize(("flags", "left"), [("DC", True), ("DR", True), ("DPE", True), ("UT", False), ("URX,UF", False), ("-", False)])
def test_who_ended_a_request_stands_in_its_flags(flags: str, left: bool) -> None:
    request = read_request(request_line(flags=flags, code=0), str)
    assert isinstance(request, Request | Plain)
    assert getattr(request, "left", False) is left


def test_a_caller_is_masked_while_reading_and_only_where_something_went_wrong_or_was_slow() -> None:
    asked: list[str] = []

    def mask(address: str) -> str:
        asked.append(address)
        return "masked"

    read_attempt(attempt_line(), mask)
    read_request(request_line(), mask)
    assert asked == []
    bad, unusual = read_attempt(attempt_line(code=500), mask), read_request(request_line(tries=2), mask)
    assert isinstance(bad, Attempt)
    assert isinstance(unusual, Request)
    assert (bad.caller, unusual.caller, asked) == ("masked", "masked", ["192.0.2.1", "192.0.2.1"])
    slow = read_attempt(attempt_line(duration_ms=SLOW_MS + 1), mask)
    assert isinstance(slow, Attempt)
    assert (slow.caller, len(asked)) == ("masked", 3)


def test_a_caller_that_the_line_does_not_name_is_nobody() -> None:
    attempt, request = read_attempt(attempt_line(code=500, caller=None)), read_request(request_line(tries=2, caller=None), str)
    assert isinstance(attempt, Attempt)
    assert isinstance(request, Request)
    assert (attempt.caller, request.caller) == ("", "")


@pytest.mark.parametrize(("took", "slow"), [(SLOW_MS, False), (SLOW_MS + 1, True)])
@pytest.mark.parametrize("code", [200, 404, 500])
def test_an_answer_is_slow_that_outlasts_the_limit_whatever_it_says(took: int, slow: bool, code: int) -> None:
    attempt = read_attempt(attempt_line(duration_ms=took, code=code))
    assert isinstance(attempt, Attempt)
    assert attempt.slow is slow


def test_what_was_never_answered_is_not_slow() -> None:
    attempt = read_attempt(attempt_line(duration_ms=SLOW_MS + 1, code=0, flags="UT"))
    assert isinstance(attempt, Attempt)
    assert not attempt.slow


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (f"0.250000;{MARK}", Answer(MARK, 0.25)),
        (f"-12.500000;{MARK}", Answer(MARK, -12.5)),
        (f"-;{MARK}", Answer(MARK, None)),
        (None, None),
        ("", None),
        (f"nan;{MARK}", None),
        (f"1e5;{MARK}", None),
        (f"0.25;{MARK}", None),
        (f"{'9' * 16}.000000;{MARK}", None),
        (f"0.250000;{MARK[:-1]}", None),
        (f"0.250000;{MARK},0.250000;{MARK}", None),
    ],
)
def test_a_score_and_a_mark_are_read_only_in_the_form_that_our_servers_write(said: str | None, read: Answer | None) -> None:
    attempt = read_attempt(attempt_line(answer=said))
    assert isinstance(attempt, Attempt)
    assert (attempt.kind, attempt.answer) == (Kind.ANSWERED, read)


def test_only_an_answer_says_something_and_a_refusal_says_nothing_that_another_could_equal() -> None:
    found = [read_attempt(attempt_line(answer=f"0.250000;{MARK}", **fields)) for fields in ({"code": 422}, {"code": 500}, {"flags": "UC"})]
    assert [attempt.answer for attempt in found if isinstance(attempt, Attempt)] == [REFUSED, None, None]


def test_a_line_that_an_older_agents_envoy_wrote_is_read() -> None:
    older = {name: value for name, value in json.loads(attempt_line(code=500)).items() if name not in ("answer", "join")}
    attempt = read_attempt(json.dumps(older).encode())
    assert isinstance(attempt, Attempt)
    assert (attempt.kind, attempt.join, attempt.answer) == (Kind.BAD, "", None)


@pytest.mark.parametrize(
    "changed",
    [
        {"start_ms": "x"},
        {"start_ms": None},
        {"start_ms": "-5"},
        {"start_ms": "9" * 30},
        {"start_ms": "9" * 9000},
        {"duration_ms": -1},
        {"duration_ms": {}},
        {"code": "200"},
        {"code": []},
        {"flags": None},
        {"flags": ["UF"]},
        {"connection": None, "code": 500, "tries": 2},
        {"cluster_revision": None},
        {"cluster_region": 7},
        {"traffic": []},
        {"host_region": 7},
        {"code": 500, "tries": 2, "caller": {}},
    ],
)
def test_a_field_that_envoy_would_not_write_makes_the_line_malformed(changed: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        read_attempt(attempt_line(**changed))
    with pytest.raises(Malformed):
        read_request(request_line(**changed), str)


@pytest.mark.parametrize(
    "cut",
    [lambda line: line[:-20], lambda line: line[20:], lambda line: line.replace(b"one", b"\xff"), lambda line: b""],
)
def test_a_line_that_is_not_whole_is_malformed(cut: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        read_attempt(cut(attempt_line()), str)
    with pytest.raises(Malformed):
        read_request(cut(request_line()), str)


@pytest.mark.parametrize("line", [b"null", b"[1]", b'"text"', b"{}", b"7", b"\x00" * 300])
def test_what_is_no_object_of_ours_is_malformed(line: bytes) -> None:
    with pytest.raises(Malformed):
        read_attempt(line, str)
    with pytest.raises(Malformed):
        read_request(line, str)
